"""Images as channels and back; turning by the imaginary unit and by angles, against complex numbers."""

import numpy as np
import pytest
import torch

from kdmri_lib.channels import as_channels, as_image, magnitude, times_i, turned

RNG = np.random.default_rng(0)
REAL = RNG.standard_normal((3, 5, 4)).astype(np.float32)
COMPLEX = (REAL + 1j * RNG.standard_normal((3, 5, 4))).astype(np.complex64)


@pytest.mark.parametrize(("image", "channels"), [(REAL, 1), (COMPLEX, 2)])
def test_channels_are_the_image_and_give_it_back_bit_for_bit(image, channels):
    held = as_channels(image)
    assert held.shape == (3, channels, 5, 4) and held.dtype == torch.float32
    back = as_image(held)
    assert back.dtype == image.dtype and np.array_equal(back, image)
    assert np.array_equal(held[:, 0].numpy(), image.real)


def test_precision_stays_where_it_was_double():
    assert as_channels(COMPLEX.astype(np.complex128)).dtype == torch.float64


def test_the_magnitude_of_a_complex_image_is_its_absolute_value_and_a_real_image_is_one():
    np.testing.assert_allclose(magnitude(COMPLEX), np.hypot(COMPLEX.real, COMPLEX.imag), rtol=1e-6)
    assert magnitude(REAL) is REAL


def test_two_channels_turn_as_complex_numbers_do():
    angles = np.array([0.3, -2.0, np.pi])
    np.testing.assert_array_equal(as_image(times_i(as_channels(COMPLEX))), 1j * COMPLEX)
    found = as_image(turned(as_channels(COMPLEX), angles))
    np.testing.assert_allclose(found, COMPLEX * np.exp(1j * angles)[:, None, None], atol=1e-6)
