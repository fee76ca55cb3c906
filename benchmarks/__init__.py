"""How fast training and inference are on this machine: `python -m benchmarks training|inference`."""
