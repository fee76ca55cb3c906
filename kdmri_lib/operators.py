"""The undersampling operator: what a scanner that measures only a mask's part of k-space leaves of an image.

For a real image x and a mask of whole lines, the transform along the lines cancels, so that zero-filling is a product
with two fixed real N x N matrices along the axis that the mask varies on: Re F^-1 M F x = P x and Im F^-1 M F x = Q x,
with P + iQ = F1^-1 diag(m) F1. That is exact, needs no complex number and no FFT, and holds for a strip of the image
that spans this axis just as for the whole. A complex image is two channels, its real and its imaginary part, and what
P + iQ makes of it is one real product of the two with the 2 N x 2 N matrix [[P, -Q], [Q, P]].
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kdmri_lib.channels import times_i
from kdmri_lib.errors import StudyError
from kdmri_lib.fourier import to_image, to_kspace
from kdmri_lib.masks import frequencies, line_axis, mask_of_lines

CENTRE_SEEN = 2  # lines on each side of zero frequency that a split never holds out


def line_matrix(lines: np.ndarray, channels: int) -> np.ndarray:
    """F1^-1 diag(lines) F1 for boolean `lines` (N,), as it acts on images of `channels`, for `along`: (C N, C N) float64, P
    for one channel, which the real part of the result is, [[P, -Q], [Q, P]] for two."""
    matrix = np.fft.ifft(lines[:, None] * np.fft.fft(np.eye(lines.size), axis=0), axis=0)
    if channels == 1:
        return matrix.real.copy()
    return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])


def along(matrix: Tensor, image: Tensor, axis: int) -> Tensor:
    """Apply an (N, N) matrix along image axis 0 (rows, H) or 1 (columns, W) of (..., H, W); one of (2 N, 2 N) along that
    axis of both channels of (..., 2, H, W) at once."""
    if len(matrix) == image.shape[axis - 2]:
        return matrix @ image if axis == 0 else image @ matrix.T
    if axis == 0:
        return (matrix @ image.flatten(-3, -2)).unflatten(-2, (2, -1))
    both = image.transpose(-3, -2).flatten(-2)  # (..., H, 2 W)
    return (both @ matrix.T).unflatten(-1, (2, -1)).transpose(-3, -2)


class Measurement(NamedTuple):
    """What the scanner leaves of images, seen in image space: both (B, C, H, W), real.

    zero_filled : the network's input, |F^-1 y| of real images, F^-1 y of complex ones.
    measured_image : what data consistency compares with, Re F^-1 y of real images, F^-1 y of complex ones.
    """

    zero_filled: Tensor
    measured_image: Tensor


class UndersamplingOperator(nn.Module):
    """y = M F x as `Measurement` of images x, (B, C, H, W) in and out: C = 1 for real images, 2 for complex ones.

    A line mask uses P and Q (see the module's text) and takes strips; any other mask takes the FFT.
    """

    def __init__(self, mask: np.ndarray):
        super().__init__()
        self.axis = line_axis(mask)
        self.shape = mask.shape
        if self.axis is None:
            self.register_buffer("mask", torch.from_numpy(mask), persistent=False)
        else:
            self.lines = mask[:, 0] if self.axis == 0 else mask[0]
            both, _ = torch.from_numpy(line_matrix(self.lines, 2)).float().chunk(2, dim=1)
            for name, part in zip(("real", "imaginary"), both.chunk(2), strict=True):
                self.register_buffer(name, part.contiguous(), persistent=False)

    def split(self, share: float, rng: np.random.Generator) -> tuple["UndersamplingOperator", "UndersamplingOperator"]:
        """The measured lines in two: those that are seen, the centre among them, and a random `share` that is held out.

        A line goes with its mirror line, which says the same of a real image. `StudyError` when the mask isn't of lines.
        """
        if self.axis is None:
            raise StudyError("only a mask of whole lines can be split by lines; this one isn't")
        away = np.abs(frequencies(self.lines.size))  # from the centre, the same for a line and its mirror
        drawn = rng.random(self.lines.size)[away] < share
        held = self.lines & drawn & (away > CENTRE_SEEN)
        of_lines = (mask_of_lines(lines, self.shape, self.axis) for lines in (self.lines & ~held, held))
        seen, other = (UndersamplingOperator(mask).to(self.real) for mask in of_lines)
        return seen, other

    def left(self, image: Tensor) -> Tensor:
        """What is left of images (B, C, H, W): real and imaginary part of F^-1 M F, (B, 2 C, H, W) for real images and
        (B, C, H, W) for complex ones. Its norm is that of the measured k-space (Parseval)."""
        real, imaginary = self._masked(image)
        return torch.cat((real, imaginary), dim=1) if image.shape[1] == 1 else real + times_i(imaginary)

    def _masked(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part of F^-1 M F of each channel, (B, C, H, W) both."""
        if self.axis is None:
            masked = to_image(to_kspace(image) * self.mask)
            return masked.real, masked.imag
        return along(self.real, image, self.axis), along(self.imaginary, image, self.axis)

    def forward(self, image: Tensor) -> Measurement:
        real, imaginary = self._masked(image)
        if image.shape[1] == 1:
            return Measurement(torch.hypot(real, imaginary), real)
        complex_image = real + times_i(imaginary)
        return Measurement(complex_image, complex_image)
