"""Bicubic interpolation of images that it should know."""

import pytest
import torch

from kdmri_lib.models.bicubic import Bicubic


@pytest.mark.parametrize(("factor", "error"), [(2, 0.02), (4, 0.07)])  # of 16 and of 8 samples a period
def test_bicubic_of_a_smooth_image(factor, error):
    """A low-frequency image is given back at the low-resolution pixels, and closely between them."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    image = (2 + torch.sin(2 * torch.pi * x / 32) + torch.cos(2 * torch.pi * y / 32))[None, None]
    enlarged = Bicubic(factor)(image, image)
    torch.testing.assert_close(enlarged[..., ::factor, ::factor], image[..., ::factor, ::factor])
    inner = (slice(None), slice(None), slice(4, -8), slice(4, -8))
    torch.testing.assert_close(enlarged[inner], image[inner], atol=error, rtol=0)


def test_bicubic_of_a_constant_image_is_constant_and_it_uses_nothing_but_the_low_resolution_pixels():
    image = torch.full((2, 1, 12, 20), 0.7)
    torch.testing.assert_close(Bicubic(4)(image, image), image)
    other = image.clone()
    other[..., 1::4, :] = 9
    assert torch.equal(Bicubic(4)(other, other), Bicubic(4)(image, image))
