"""Orthonormal Fourier transform pairs between images and k-space, centring, and coil combination.

k-space is kept unshifted throughout the study (zero frequency at index 0), of images whose middle is at N // 2; the other
orders that people's files have are `kdmri_lib.orders`' affair. Conventions follow `numpy.fft` with ``norm="ortho"``,
so that the energy of image and k-space are equal (Parseval).
"""

import torch
from torch import Tensor

from kdmri_lib.coils import power_of_two

AXES = (-2, -1)


def to_kspace(image: Tensor) -> Tensor:
    """(..., H, W) real or complex to (..., H, W) complex, unshifted."""
    return torch.fft.fft2(image, norm="ortho")


def to_image(kspace: Tensor) -> Tensor:
    """Inverse of `to_kspace`: (..., H, W) complex, unshifted, to (..., H, W) complex."""
    return torch.fft.ifft2(kspace, norm="ortho")


def centred(kspace: Tensor) -> Tensor:
    """Move zero frequency from index 0 to the middle (N // 2) of the last two axes."""
    return torch.fft.fftshift(kspace, dim=AXES)


def uncentred(kspace: Tensor) -> Tensor:
    """Inverse of `centred`, of odd sizes too."""
    return torch.fft.ifftshift(kspace, dim=AXES)


def magnitude_image(kspace: Tensor) -> Tensor:
    """Root-sum-of-squares image (H, W) of centred k-space (coils, H, W). k-space isn't moved, which would only turn the
    phases of all coil images at a pixel by the same angle."""
    return centred(root_sum_of_squares(to_image(kspace)))


def root_sum_of_squares(coil_images: Tensor) -> Tensor:
    """One real image (..., H, W) of coil images (..., coils, H, W): sqrt(sum over coils of |image|^2)."""
    scale = power_of_two(float(coil_images.abs().max()))
    return torch.linalg.vector_norm(coil_images / scale, dim=-3) * scale


def sensitivity_weighted(coil_images: Tensor, sensitivities: Tensor) -> Tensor:
    """One complex image (H, W) of coil images and sensitivities S, both (coils, H, W) (Roemer et al. 1990): the sum over
    coils of conj(S) image / sqrt(sum of |S|^2), 0 where no coil sees anything. Noise that is white and independent between
    coils is white in it, of the same strength."""
    weight = root_sum_of_squares(sensitivities)
    return (sensitivities.conj() * coil_images).sum(-3) / weight.clamp_min(torch.finfo(weight.dtype).tiny)
