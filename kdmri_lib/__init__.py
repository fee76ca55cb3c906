"""Attention-based knowledge distillation for MR image reconstruction, as a study that runs.

The study rebuilds Murugesan et al., "KD-MRI: A knowledge distillation framework for image reconstruction and image
restoration in MRI workflow" (MIDL 2020). Data flow in one direction::

    datasets -> prepared HDF5 -> operators (undersampled on the fly) -> models -> losses -> training -> evaluation

`kdmri_study` is the engine that runs the study on it; README.md beside this file says where each part of the paper lives.
"""

import os

# Bound to cores, as a cluster's settings may ask, trainings side by side would all sit on the first.
os.environ["OMP_PROC_BIND"] = "false"

__version__ = "0.1.0"
