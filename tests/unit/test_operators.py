"""Undersampling against the complex operator by direct sums in float64; strips as problems of their own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.channels import as_channels
from kdmri_lib.masks import cartesian_mask
from kdmri_lib.operators import Undersampling, along, line_matrix, projection_matrices
from tests.oracles import dft_matrix, direct_dft, inverse_dft, random_mask

sizes = st.tuples(st.integers(4, 17), st.integers(4, 17))
seeds = st.integers(0, 2**31)


@settings(deadline=None)
@given(sizes, st.sampled_from(["rows", "columns", "points"]), seeds)
def test_undersampling_is_the_complex_operator(shape, kind, seed):
    rng = np.random.default_rng(seed)
    image, mask = rng.random(shape), random_mask(rng, shape, kind)
    operator = Undersampling(mask).double()
    zero_filled, measured = operator(torch.from_numpy(image)[None, None])
    direct = inverse_dft(direct_dft(image) * mask)
    np.testing.assert_allclose(zero_filled[0, 0].numpy(), np.abs(direct), atol=1e-6)
    np.testing.assert_allclose(measured[0, 0].numpy(), direct.real, atol=1e-6)


@settings(deadline=None)
@given(sizes, st.sampled_from(["rows", "columns", "points"]), seeds)
def test_undersampling_a_complex_image_is_the_complex_operator(shape, kind, seed):
    rng = np.random.default_rng(seed)
    image, mask = rng.standard_normal(shape) + 1j * rng.standard_normal(shape), random_mask(rng, shape, kind)
    zero_filled, measured = Undersampling(mask).double()(as_channels(image)[None])
    direct = inverse_dft(direct_dft(image) * mask)
    np.testing.assert_allclose(zero_filled[0].numpy(), [direct.real, direct.imag], atol=2e-6)
    assert torch.equal(measured, zero_filled)


@settings(deadline=None)
@given(sizes, st.sampled_from(["rows", "columns", "points"]), seeds)
def test_a_real_image_is_a_complex_one_without_imaginary_part(shape, kind, seed):
    rng = np.random.default_rng(seed)
    image, mask = rng.random(shape), random_mask(rng, shape, kind)
    operator = Undersampling(mask).double()
    real, both = (operator(as_channels(values)[None]) for values in (image, image + 0j))
    np.testing.assert_allclose(both.zero_filled.norm(dim=1, keepdim=True), real.zero_filled, atol=1e-12)
    np.testing.assert_allclose(both.measured_image[:, :1], real.measured_image, atol=1e-12)


@settings(deadline=None)
@given(st.integers(2, 20), seeds)
def test_projection_matrices_are_transform_lines_and_transform_back(size, seed):
    lines = np.random.default_rng(seed).random(size) < 0.5
    real, imaginary = projection_matrices(lines)
    expected = np.conj(dft_matrix(size)) @ np.diag(lines) @ dft_matrix(size)
    np.testing.assert_allclose(real + 1j * imaginary, expected, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_matrix_along_an_axis_meets_every_line_of_that_axis(axis):
    rng = np.random.default_rng(0)
    image = rng.random((2, 1, 5, 7))
    matrix = rng.random((image.shape[2 + axis],) * 2)
    expected = np.apply_along_axis(lambda line: matrix @ line, 2 + axis, image)
    np.testing.assert_allclose(along(torch.from_numpy(matrix), torch.from_numpy(image), axis), expected, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_matrix_of_lines_on_two_channels_is_the_complex_matrix_on_a_complex_image(axis):
    rng = np.random.default_rng(1)
    image = rng.standard_normal((3, 5, 7)) + 1j * rng.standard_normal((3, 5, 7))
    lines = rng.random(image.shape[1 + axis]) < 0.5
    size = lines.size
    matrix = np.conj(dft_matrix(size)) @ np.diag(lines) @ dft_matrix(size)
    expected = np.apply_along_axis(lambda line: matrix @ line, 1 + axis, image)
    found = along(torch.from_numpy(line_matrix(lines, 2)), as_channels(image), axis)
    np.testing.assert_allclose(found, as_channels(expected), atol=1e-12)


@settings(deadline=None)
@given(st.integers(6, 16), st.integers(4, 9), seeds)
def test_zero_filling_a_strip_is_the_strip_of_the_whole(height, width, seed):
    """Along the fully sampled axis a strip is a complete smaller problem."""
    rng = np.random.default_rng(seed)
    mask = random_mask(rng, (height, 20), "rows")
    image = torch.from_numpy(rng.random((1, 1, height, 20))).float()
    degrade = Undersampling(mask)
    whole, strip = degrade(image), degrade(image[..., 3 : 3 + width])
    torch.testing.assert_close(strip.zero_filled, whole.zero_filled[..., 3 : 3 + width])
    torch.testing.assert_close(strip.measured_image, whole.measured_image[..., 3 : 3 + width])


def test_a_full_mask_leaves_the_image():
    image = torch.rand(2, 1, 9, 6)
    for measured in Undersampling(np.ones((9, 6), bool))(image):
        torch.testing.assert_close(measured, image)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_lines_are_split_in_two_a_line_with_its_mirror_the_centre_seen(axis, seed):
    shape = (40, 60)
    mask = cartesian_mask(shape, 3, axis=axis, seed=seed)
    whole = Undersampling(mask)
    seen, held = whole.split(0.4, np.random.default_rng(seed))
    assert not (seen.lines & held.lines).any() and (seen.lines | held.lines).tolist() == whole.lines.tolist()
    mirror = np.roll(held.lines[::-1], 1)
    assert not (mirror & seen.lines).any() and held.lines.any()
    assert seen.lines[[0, 1, 2, -1, -2]].tolist() == whole.lines[[0, 1, 2, -1, -2]].tolist()
    others = {tuple(whole.split(0.4, np.random.default_rng(s))[1].lines) for s in range(20)}
    assert len(others) > 1, "other lines at each step"


@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_left_has_the_norm_of_the_measured_k_space(channels):
    """Against numpy's FFT in float64."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((3, channels, 24, 20))
    mask = cartesian_mask((24, 20), 2, seed=1)
    left = Undersampling(mask).left(torch.from_numpy(image).float()).flatten(1).norm(dim=1)
    whole = image[:, 0] if channels == 1 else image[:, 0] + 1j * image[:, 1]
    kspace = np.fft.fft2(whole, norm="ortho") * mask
    np.testing.assert_allclose(left, np.linalg.norm(kspace.reshape(3, -1), axis=1), rtol=1e-5)
