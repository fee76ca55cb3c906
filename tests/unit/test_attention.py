"""Attention maps and their distances, against NumPy in float64 on what the convolutions gave."""

import numpy as np
import pytest
import torch

from kdmri_lib.attention import mean_attention_distances
from kdmri_lib.datasets.prepared import Volume
from kdmri_lib.masks import cartesian_mask
from kdmri_lib.models.base import build_model
from kdmri_lib.operators import UndersamplingOperator

MASK = cartesian_mask((16, 12), 4, centre=2)
OPERATOR = UndersamplingOperator(MASK)


def network(seed, convolutions, features):
    torch.manual_seed(seed)
    return build_model("dccnn", MASK, cascades=2, convolutions=convolutions, features=features).eval()


TEACHER, STUDENT = network(0, convolutions=5, features=6), network(1, convolutions=3, features=4)


def unit_maps(model, images: np.ndarray) -> list[np.ndarray]:
    """The normalised maps (slices, H W) of each cascade's middle convolution."""
    names = [f"cascade{c}.convolution{(len(model.cascades[0]) + 1) // 2}" for c in (1, 2)]
    with torch.no_grad():
        _, features = model(*OPERATOR(torch.from_numpy(images)[:, None]), features=names)
    maps = [(features[name].double().numpy() ** 2).sum(axis=1).reshape(len(images), -1) for name in names]
    return [q / np.sqrt((q**2).sum(axis=1, keepdims=True)) for q in maps]


def distances(images: np.ndarray) -> np.ndarray:
    both = zip(unit_maps(STUDENT, images), unit_maps(TEACHER, images), strict=True)
    return np.array([np.sqrt(((s - t) ** 2).sum(axis=1)) for s, t in both])


@pytest.fixture
def images():
    return np.random.default_rng(0).random((5, 16, 12), np.float32)


def test_the_mean_counts_a_volume_once_however_many_slices_it_has(images):
    volumes = [Volume(f"v{n}", "test", part, {}) for n, part in enumerate((images[:1], images[1:]))]
    found = mean_attention_distances(STUDENT, TEACHER, OPERATOR, volumes)
    by_slice = distances(images)
    expected = (by_slice[:, 0] + by_slice[:, 1:].mean(axis=1)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.abs(expected - by_slice.mean(axis=1)).max() > 1e-3, "not the mean over all slices"
