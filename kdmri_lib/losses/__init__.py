"""Losses, a file each; `base` says what a loss is."""
