"""Orthonormal Fourier transform pairs between images and k-space, centring, and coil combination.

k-space is kept unshifted throughout the study (zero frequency at index 0), of images whose middle is at N // 2; the other
orders that people's files have are `kdmri_lib.orders`' affair. Conventions follow `numpy.fft` with ``norm="ortho"``,
so that the energy of image and k-space are equal (Parseval).
"""

import torch
from torch import Tensor

from kdmri_lib.coils import power_of_two

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
    scale = power_of_two(float(coil_images.detach().abs().max()))
    return torch.linalg.vector_norm(coil_images / scale, dim=coil_axis) * scale


def sensitivity_weighted(coil_images: Tensor, sensitivities: Tensor, coil_axis: int = -3) -> Tensor:
    """Combine coil images to one complex image with their sensitivity maps S (Roemer et al. 1990): sum over coils of
    conj(S) image / sqrt(sum of |S|^2), 0 where no coil sees anything.

    Without noise its magnitude is the root sum of squares; the coils' noise, where it is of one strength and independent
    between them, is white in it, of that strength.
    """
    weight = root_sum_of_squares(sensitivities, coil_axis)
    return (sensitivities.conj() * coil_images).sum(coil_axis) / weight.clamp_min(torch.finfo(weight.dtype).tiny)
