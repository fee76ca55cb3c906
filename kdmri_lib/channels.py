"""Images as the networks' channels: a real image is one, a complex image two, its real and its imaginary part.

What reads images and what measures them asks here; in between all is written for as many channels as there are.
"""

import numpy as np
import torch
from torch import Tensor


def as_channels(image: np.ndarray | Tensor) -> Tensor:
    """Images (..., H, W), real or complex, as (..., C, H, W) real of the same precision: C = 1, or 2. A tensor is that
    already."""
    if isinstance(image, Tensor):
        return image
    if np.iscomplexobj(image):
        return torch.from_numpy(np.stack((image.real, image.imag), axis=-3))
    return torch.from_numpy(image).unsqueeze(-3)


def as_image(channels: Tensor) -> np.ndarray:
    """Inverse of `as_channels`: (..., C, H, W) on any device to (..., H, W), in float32 or complex64. More
    channels than two are no image of these, and stay."""
    parts = channels.float().cpu().numpy()
    if channels.shape[-3] > 2:
        return parts
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
    cosine, sine = (torch.from_numpy(part(angles)).to(channels).view(-1, 1, 1, 1) for part in (np.cos, np.sin))
    return cosine * channels + sine * times_i(channels)


class CommonPhase:
    """The phase of the zero frequency of complex images (B, 2, H, W), which is that of the sum of their pixels.

    A scanner's constant phase is arbitrary. Taken `off` before a network and put back `on` after it, it turns what the
    network makes and changes nothing else, exactly. Every mask measures zero frequency, of a strip too. Real images stay
    as they are.
    """

    def __init__(self, image: Tensor):
        self.turn = None
        if image.shape[1] == 2:
            total = image.sum(dim=(2, 3), keepdim=True)
            size = total.norm(dim=1, keepdim=True)
            # Of an image without zero frequency, an empty one, nothing is to be taken off.
            self.turn = torch.where(size > 0, total / size, torch.eye(2)[0].to(image)[None, :, None, None])

    def on(self, image: Tensor, sign: int = 1) -> Tensor:
        """Images (B, C, H, W) turned by the phase."""
        if self.turn is None:
            return image
        return self.turn[:, :1] * image + sign * self.turn[:, 1:] * times_i(image)

    def off(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) turned back by it."""
        return self.on(image, -1)
