"""Networks, a file each; `base` says what every network offers."""
