"""How fast training, data and inference are: `python -m kdmri_lib benchmark`."""
