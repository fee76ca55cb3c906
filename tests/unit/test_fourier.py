"""Fourier transforms against direct sums, centring, and the combination of coils."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.fourier import magnitude_image, to_image, to_kspace
from kdmri_lib.orders import (
    ORDERS,
    cropped,
    from_order,
    is_image_shifted,
    is_kspace_centred,
    looks_like_images,
    to_order,
)
from tests.oracles import direct_dft
from tests.unit.deployment import scans

NAMES = dict(zip(scans.FORMATS, ("unshifted", "shifted", "centred", "corners"), strict=True))

sizes = st.tuples(st.integers(4, 17), st.integers(4, 17))


@settings(deadline=None)
@given(sizes, st.integers(0, 2**31))
def test_fft_is_the_orthonormal_dft(shape, seed):
    image = np.random.default_rng(seed).standard_normal(shape)
    kspace = to_kspace(torch.from_numpy(image))
    np.testing.assert_allclose(kspace.numpy(), direct_dft(image), atol=1e-10)
    np.testing.assert_allclose(to_image(kspace).numpy(), image, atol=1e-12)
    assert float(kspace.abs().square().sum()) == pytest.approx(float((image**2).sum()))


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
    tiny = magnitude_image((1e-24 * kspace).to(torch.complex64))  # whose squares are 0 in float32
    np.testing.assert_allclose(tiny.numpy() * 1e24, expected, rtol=1e-5)


@settings(deadline=None)
@given(sizes, st.integers(0, 2**31), st.sampled_from(sorted(scans.FORMATS)))
def test_every_order_becomes_the_studys_and_goes_back(shape, seed, made):
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((2, *shape)) + 1j * rng.standard_normal((2, *shape))
    kspace, order = scans.FORMATS[made](image), ORDERS[NAMES[made]]
    found = from_order(kspace, order)
    np.testing.assert_allclose(found, np.fft.fft2(image, norm="ortho"), atol=1e-12)
    np.testing.assert_allclose(to_order(found, order), kspace, atol=1e-12)


@pytest.mark.parametrize("made", scans.FORMATS)
@pytest.mark.parametrize("shape", [(48, 40), (49, 40), (48, 41), (51, 37)])
@pytest.mark.parametrize("radians", [0, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_the_order_is_found_in_the_data(made, shape, radians, masked):
    """Of an object with and without phase, measured whole or undersampled, through one coil and through four."""
    image = scans.objects(2, shape)[:, None] * scans.smooth_phase(shape, radians)
    lines = scans.every_other_line(shape[1]) if masked else np.ones(shape[1], bool)
    for coils in (1, scans.sensitivities(shape)):
        kspace = scans.FORMATS[made](image * coils)
        kspace = kspace * (np.fft.fftshift(lines) if "fftshift(fft2" in made else lines)
        order = ORDERS[NAMES[made]]
        assert (is_kspace_centred(kspace), is_image_shifted(kspace)) == order
        assert not looks_like_images(kspace) and looks_like_images(image + 0j)


def test_orders_that_the_data_do_not_show():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((40, 40)) + 1j * rng.standard_normal((40, 40))
    assert is_kspace_centred(noise) is None and is_image_shifted(noise) is None and not looks_like_images(noise)
    filled = np.fft.fft2(1 + rng.random((40, 40)))  # an object that fills the field of view
    assert is_kspace_centred(filled) is False and is_image_shifted(filled) is None


@pytest.mark.parametrize("size", [16, 17])
def test_cropping_a_readout_keeps_the_middle_of_the_image(size):
    """Against the transform of the cropped image."""
    image = np.random.default_rng(0).random((3, 12, 2 * size))
    for values, axis in ((image, -1), (image.swapaxes(-2, -1).copy(), -2)):
        middle = np.take(values, range(size - size // 2, size - size // 2 + size), axis=axis)
        found = cropped(np.fft.fft2(values, norm="ortho"), axis, size)
        np.testing.assert_allclose(found, np.fft.fft2(middle, norm="ortho"), atol=1e-12)
