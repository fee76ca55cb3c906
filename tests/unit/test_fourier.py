"""Fourier transforms against direct sums, centring, and the combination of coils."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.fourier import centred, magnitude_image, root_sum_of_squares, to_image, to_kspace, uncentred
from tests.oracles import dft_matrix, direct_dft

sizes = st.tuples(st.integers(4, 17), st.integers(4, 17))


@settings(deadline=None)
@given(sizes, st.integers(0, 2**31))
def test_fft_is_the_orthonormal_dft(shape, seed):
    image = np.random.default_rng(seed).standard_normal(shape)
    kspace = to_kspace(torch.from_numpy(image))
    np.testing.assert_allclose(kspace.numpy(), direct_dft(image), atol=1e-10)
    np.testing.assert_allclose(to_image(kspace).numpy(), image, atol=1e-12)
    assert float(kspace.abs().square().sum()) == pytest.approx(float((image**2).sum()))


@settings(deadline=None)
@given(sizes)
def test_centring_moves_zero_frequency_to_the_middle_and_back(shape):
    kspace = torch.zeros(shape)
    kspace[0, 0] = 1
    assert centred(kspace)[shape[0] // 2, shape[1] // 2] == 1
    assert torch.equal(uncentred(centred(kspace)), kspace)


def test_root_sum_of_squares_of_known_coils():
    coils = torch.tensor([3 + 0j, 0 + 4j]).reshape(1, 2, 1, 1)
    assert float(root_sum_of_squares(coils)) == pytest.approx(5)


@pytest.mark.parametrize("shape", [(8, 12), (7, 9)])
def test_an_image_of_raw_k_space_is_that_of_a_transform_about_the_middles(shape):
    """Coil images whose pixels and frequencies both count from the middle, transformed by the definition."""
    coils = np.random.default_rng(0).random((3, *shape)) * np.exp(2j * np.arange(3))[:, None, None]

    def matrix(n):
        from_middle = np.arange(n) - n // 2
        return np.exp(-2j * np.pi * np.outer(from_middle, from_middle) / n) / np.sqrt(n)

    kspace = torch.from_numpy(matrix(shape[0]) @ coils @ matrix(shape[1]).T)
    expected = np.sqrt((np.abs(coils) ** 2).sum(axis=0))
    np.testing.assert_allclose(magnitude_image(kspace).numpy(), expected, atol=1e-12)


def test_the_direct_transform_that_others_are_compared_with_is_unitary_and_has_the_sign_of_numpys():
    np.testing.assert_allclose(dft_matrix(9) @ np.conj(dft_matrix(9)), np.eye(9), atol=1e-12)
    np.testing.assert_allclose(dft_matrix(9), np.fft.fft(np.eye(9), norm="ortho"), atol=1e-12)
