"""A small measurement that networks are tried on."""

import numpy as np
import pytest
import torch

from kdmri_lib.masks import cartesian_mask
from kdmri_lib.operators import Measurement, UndersamplingOperator


@pytest.fixture(scope="session")
def mask() -> np.ndarray:
    """A 4x Cartesian mask of 16 x 12."""
    return cartesian_mask((16, 12), 4, centre=2)


@pytest.fixture
def measurement(mask) -> Measurement:
    """What the mask leaves of two images."""
    return UndersamplingOperator(mask)(torch.rand(2, 1, 16, 12, generator=torch.Generator().manual_seed(0)))
