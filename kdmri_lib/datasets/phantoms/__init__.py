"""Images that are generated, a file each, in the same form as the downloads in `sources`."""
