"""Images as the networks' channels: a real image is one, a complex image two, its real and its imaginary part.

This is all that tells the magnitude arm from the complex one: what reads images and what measures them asks here, and in
between everything is written for as many channels as there are.
"""

import numpy as np
import torch
from torch import Tensor


def as_channels(image: np.ndarray) -> Tensor:
    """Images (..., H, W), real or complex, as (..., C, H, W) real of the same precision: C = 1, or 2."""
    if np.iscomplexobj(image):
        return torch.from_numpy(np.stack((image.real, image.imag), axis=-3))
    return torch.from_numpy(image).unsqueeze(-3)


def as_image(channels: Tensor) -> np.ndarray:
    """Inverse of `as_channels`: (..., C, H, W) on any device to (..., H, W), in float32 or complex64."""
    parts = channels.float().cpu().numpy()
    return parts[..., 0, :, :] if channels.shape[-3] == 1 else parts[..., 0, :, :] + 1j * parts[..., 1, :, :]


def magnitude(image: np.ndarray) -> np.ndarray:
    """|image| of complex images. Real ones are magnitudes already, and a network's are compared with them as they are,
    below zero too."""
    return np.abs(image) if np.iscomplexobj(image) else image


def times_i(channels: Tensor) -> Tensor:
    """Complex images (..., 2, H, W) times the imaginary unit: (a, b) to (-b, a)."""
    real, imaginary = channels.unbind(-3)
    return torch.stack((-imaginary, real), dim=-3)


def turned(channels: Tensor, angles: np.ndarray) -> Tensor:
    """Complex images (B, 2, H, W), each times exp(i angle) of its own `angles` (B,) in radians."""
    cosine, sine = (
        torch.from_numpy(f(angles)).to(channels).reshape(-1, *[1] * (channels.ndim - 1)) for f in (np.cos, np.sin)
    )
    return cosine * channels + sine * times_i(channels)
