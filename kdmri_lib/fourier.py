"""Orthonormal Fourier transform pairs between images and k-space, centring, and coil combination.

k-space is kept unshifted throughout the study (zero frequency at index 0); only `centred` and `uncentred`, for display
and for raw scanner data, know the other order. Conventions follow `numpy.fft` with ``norm="ortho"``, so that the energy
of image and k-space are equal (Parseval).
"""

import torch
from torch import Tensor

IMAGE_AXES = (-2, -1)


def to_kspace(image: Tensor) -> Tensor:
    """Orthonormal 2-D FFT over the last two axes: (..., H, W) real or complex to (..., H, W) complex, unshifted."""
    return torch.fft.fft2(image, norm="ortho")


def to_image(kspace: Tensor) -> Tensor:
    """Inverse of `to_kspace`: (..., H, W) complex, unshifted, to (..., H, W) complex."""
    return torch.fft.ifft2(kspace, norm="ortho")


def centred(kspace: Tensor) -> Tensor:
    """Move the zero frequency from index 0 to the centre (N // 2) of the last two axes."""
    return torch.fft.fftshift(kspace, dim=IMAGE_AXES)


def uncentred(kspace: Tensor) -> Tensor:
    """Inverse of `centred`, exact for odd sizes too."""
    return torch.fft.ifftshift(kspace, dim=IMAGE_AXES)


def magnitude_image(kspace: Tensor) -> Tensor:
    """Root-sum-of-squares image (H, W) of centred k-space (coils, H, W), the image's centre in the middle.

    k-space isn't moved: its shift only turns the phases of the coil images, all by the same angle per pixel.
    """
    return centred(root_sum_of_squares(to_image(kspace)))


def root_sum_of_squares(coil_images: Tensor, coil_axis: int = -3) -> Tensor:
    """Combine coil images to one real magnitude image (Roemer et al. 1990): sqrt(sum over coils of |image|^2)."""
    return torch.linalg.vector_norm(coil_images, dim=coil_axis)
