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
    assert np.array_equal(held[:, 0].numpy(), image.real)
    assert as_image(held).dtype == image.dtype and np.array_equal(as_image(held), image)
    assert as_channels(image.astype(np.result_type(image, np.float64))).dtype == torch.float64, "double stays double"
    expected = np.hypot(image.real, image.imag) if channels == 2 else image
    np.testing.assert_allclose(magnitude(image), expected, rtol=1e-6)


def test_images_turn_by_the_imaginary_unit_and_by_angles_of_their_own():
    images, angles = as_channels(COMPLEX), np.array([0.3, -2.0, np.pi])
    np.testing.assert_array_equal(as_image(times_i(images)), 1j * COMPLEX)
    np.testing.assert_allclose(
        as_image(turned(images, angles)), COMPLEX * np.exp(1j * angles)[:, None, None], atol=1e-6
    )


def test_the_common_phase_is_that_of_zero_frequency_and_comes_off_and_on_again():
    images = as_channels(COMPLEX)
    phase = CommonPhase(images)
    angles = np.angle(np.fft.fft2(COMPLEX.astype(complex))[:, :1, :1])
    np.testing.assert_allclose(as_image(phase.off(images)), COMPLEX * np.exp(-1j * angles), atol=1e-6)
    np.testing.assert_allclose(as_image(phase.on(phase.off(images))), COMPLEX, atol=1e-6)
    for same in (as_channels(REAL), torch.zeros(2, 2, 4, 4)):  # real images and empty ones have none
        phase = CommonPhase(same)
        assert torch.equal(phase.off(same), same) and torch.equal(phase.on(same), same)
