"""Images as channels and back; turning by the imaginary unit and by angles, against complex numbers."""

import numpy as np
import pytest
import torch

from kdmri_lib.channels import CommonPhase, as_channels, as_image, magnitude, times_i, turned

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


def test_times_i_is_the_imaginary_unit():
    np.testing.assert_array_equal(as_image(times_i(as_channels(COMPLEX))), 1j * COMPLEX)


def test_images_turn_by_angles_of_their_own():
    angles = np.array([0.3, -2.0, np.pi])
    found = as_image(turned(as_channels(COMPLEX), angles))
    np.testing.assert_allclose(found, COMPLEX * np.exp(1j * angles)[:, None, None], atol=1e-6)


def test_the_common_phase_is_that_of_zero_frequency_and_comes_off_and_on_again():
    images = as_channels(COMPLEX)
    phase = CommonPhase(images)
    bare = as_image(phase.off(images))
    angles = np.angle(np.fft.fft2(COMPLEX.astype(complex))[:, :1, :1])
    np.testing.assert_allclose(bare, COMPLEX * np.exp(-1j * angles), atol=1e-6)
    np.testing.assert_allclose(np.angle(bare.sum(axis=(1, 2))), 0, atol=1e-6)
    np.testing.assert_allclose(as_image(phase.on(phase.off(images))), COMPLEX, atol=1e-6)


def test_real_images_and_empty_ones_stay_as_they_are():
    real, empty = as_channels(REAL), torch.zeros(2, 2, 4, 4)
    for images in (real, empty):
        phase = CommonPhase(images)
        assert torch.equal(phase.off(images), images) and torch.equal(phase.on(images), images)
