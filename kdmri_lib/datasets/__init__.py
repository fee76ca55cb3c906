"""Images: where they come from (`sources`, `phantoms`), how they are prepared, and the one format that all else reads."""
