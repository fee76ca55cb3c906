"""The undersampling operator: what a scanner that measures only a mask's part of k-space leaves of an image.

For a real image x and a mask of whole lines, the transform along the lines cancels, so that zero-filling is a product
with two fixed real N x N matrices along the axis that the mask varies on: Re F^-1 M F x = P x and Im F^-1 M F x = Q x,
with P + iQ = F1^-1 diag(m) F1. That is exact, needs no complex number and no FFT, and holds for a strip of the image
that spans this axis just as for the whole.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kdmri_lib.fourier import to_image, to_kspace
from kdmri_lib.masks import line_axis


def projection_matrices(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary part of F1^-1 diag(lines) F1 for boolean `lines` (N,): two (N, N) float64 arrays, P and Q."""
    matrix = np.fft.ifft(lines[:, None] * np.fft.fft(np.eye(lines.size), axis=0), axis=0)
    return matrix.real.copy(), matrix.imag.copy()


def along(matrix: Tensor, image: Tensor, axis: int) -> Tensor:
    """Apply an (N, N) matrix along image axis 0 (rows, H) or 1 (columns, W) of (..., H, W)."""
    return matrix @ image if axis == 0 else image @ matrix.T


class Measurement(NamedTuple):
    """What the scanner leaves of an image, seen in image space: both (B, 1, H, W), real.

    zero_filled : |F^-1 y|, the network's input.
    measured_image : Re F^-1 y, what data consistency compares with.
    """

    zero_filled: Tensor
    measured_image: Tensor


class Undersampling(nn.Module):
    """y = M F x for real images x, as `Measurement`; (B, 1, H, W) real in and out.

    A line mask uses P and Q (see the module's text) and takes strips; any other mask takes the FFT.
    """

    def __init__(self, mask: np.ndarray):
        super().__init__()
        self.axis = line_axis(mask)
        if self.axis is None:
            self.register_buffer("mask", torch.from_numpy(mask), persistent=False)
        else:
            real, imaginary = projection_matrices(mask[:, 0] if self.axis == 0 else mask[0])
            self.register_buffer("real", torch.from_numpy(real).float(), persistent=False)
            self.register_buffer("imaginary", torch.from_numpy(imaginary).float(), persistent=False)

    def forward(self, image: Tensor) -> Measurement:
        if self.axis is None:
            zero_filled = to_image(to_kspace(image) * self.mask)
            return Measurement(zero_filled.abs(), zero_filled.real)
        real = along(self.real, image, self.axis)
        return Measurement(torch.hypot(real, along(self.imaginary, image, self.axis)), real)
