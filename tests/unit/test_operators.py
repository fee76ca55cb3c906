"""Undersampling against the complex operator by direct sums in float64; lines that are held out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.channels import as_channels
from kdmri_lib.masks import cartesian_mask
from kdmri_lib.operators import UndersamplingOperator, along, line_matrix
from tests.oracles import dft_matrix, direct_dft, inverse_dft, random_mask

sizes = st.tuples(st.integers(4, 17), st.integers(4, 17))
seeds = st.integers(0, 2**31)


@settings(deadline=None)
@given(sizes, st.sampled_from(["rows", "columns", "points"]), seeds)
def test_undersampling_is_the_complex_operator(shape, kind, seed):
    """Of a real image, whose zero-filled one is a magnitude; of a complex one; and of a complex one that is real."""
    rng = np.random.default_rng(seed)
    image, mask = rng.random(shape), random_mask(rng, shape, kind)
    operator = UndersamplingOperator(mask).double()
    zero_filled, measured = operator(as_channels(image)[None])
    direct = inverse_dft(direct_dft(image) * mask)
    np.testing.assert_allclose(zero_filled[0, 0], np.abs(direct), atol=1e-6)
    np.testing.assert_allclose(measured[0, 0], direct.real, atol=1e-6)
    for complex_image in (image + 0j, image * np.exp(2j * rng.random(shape))):
        zero_filled, measured = operator(as_channels(complex_image)[None])
        direct = inverse_dft(direct_dft(complex_image) * mask)
        np.testing.assert_allclose(zero_filled[0], [direct.real, direct.imag], atol=2e-6)
        assert torch.equal(measured, zero_filled)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_matrix_of_lines_is_transform_lines_and_transform_back_along_its_axis(axis, channels):
    """The complex matrix by the transform's definition, on every line of complex images; of real ones its real part."""
    rng = np.random.default_rng(1)
    image = rng.standard_normal((3, 5, 7)) + 1j * (channels - 1) * rng.standard_normal((3, 5, 7))
    lines = rng.random(image.shape[1 + axis]) < 0.5
    matrix = np.conj(dft_matrix(lines.size)) @ np.diag(lines) @ dft_matrix(lines.size)
    expected = np.apply_along_axis(lambda line: matrix @ line, 1 + axis, image)
    found = along(torch.from_numpy(line_matrix(lines, channels)), as_channels(image)[:, :channels], axis)
    np.testing.assert_allclose(found, as_channels(expected)[:, :channels], atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_lines_are_split_in_two_a_line_with_its_mirror_the_centre_seen(axis):
    whole = UndersamplingOperator(cartesian_mask((40, 60), 3, axis=axis, seed=1))
    held_out = set()
    for seed in range(20):
        seen, held = whole.split(0.4, np.random.default_rng(seed))
        assert not (seen.lines & held.lines).any() and (seen.lines | held.lines).tolist() == whole.lines.tolist()
        assert not (np.roll(held.lines[::-1], 1) & seen.lines).any() and not held.lines[[0, 1, 2, -1, -2]].any()
        held_out.add(tuple(held.lines))
    assert len(held_out) > 10, "other lines at each step"


@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_left_has_the_norm_of_the_measured_k_space(channels):
    """Against numpy's FFT in float64."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((3, channels, 24, 20))
    mask = cartesian_mask((24, 20), 2, seed=1)
    left = UndersamplingOperator(mask).left(torch.from_numpy(image).float()).flatten(1).norm(dim=1)
    whole = image[:, 0] if channels == 1 else image[:, 0] + 1j * image[:, 1]
    kspace = np.fft.fft2(whole, norm="ortho") * mask
    np.testing.assert_allclose(left, np.linalg.norm(kspace.reshape(3, -1), axis=1), rtol=1e-5)
