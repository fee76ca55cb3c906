"""Images that are generated, one file per source, in the same form as the downloads in `sources`."""
