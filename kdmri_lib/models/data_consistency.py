"""Data consistency: measured k-space lines correct the network's prediction (paper, eq. 2)."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from kdmri_lib.errors import StudyError
from kdmri_lib.fourier import to_image, to_kspace
from kdmri_lib.masks import line_axis, mirrored
from kdmri_lib.operators import along, line_matrix


class DataConsistency(nn.Module):
    """Eq. 2 on a complex prediction of two channels, or on a real one of one, real part taken as the published code does.

    The prediction h becomes h + w (F^-1 y - F^-1 M F h), with w = lambda / (1 + lambda). For a line mask F^-1 M F is one
    real matrix along one axis (`line_matrix`). For any other mask it is an FFT with the mask; of real predictions a real
    FFT, with the symmetrised mask (M(k) + M(-k)) / 2, which gives the real part. All are exact; the tests compare them
    with the complex operator in float64. On real images k and -k are tied, and a line whose mirror wasn't measured is
    corrected at half strength; on complex ones every measured line is at full strength.

    Parameters
    ----------
    mask : boolean (H, W), unshifted.
    strength : lambda > 0, or infinity (default) for noiseless data, where measured lines replace predicted ones.
    channels : of the images, 1 or 2.
    """

    def __init__(self, mask: np.ndarray, strength: float = math.inf, channels: int = 1):
        super().__init__()
        if not strength >= 0:
            raise StudyError(f"data consistency: lambda is {strength}, expected >= 0 or infinity")
        self.weight = 1.0 if math.isinf(strength) else strength / (1 + strength)
        self.axis = line_axis(mask)
        self.shape = mask.shape
        if self.axis is not None:
            matrix = line_matrix(mask[:, 0] if self.axis == 0 else mask[0], channels)
            self.register_buffer("matrix", torch.from_numpy(matrix).float(), persistent=False)
        elif channels == 1:
            symmetric = (mask.astype(float) + mirrored(mask)) / 2
            half = torch.from_numpy(symmetric[:, : mask.shape[1] // 2 + 1]).float()
            self.register_buffer("symmetric_mask", half, persistent=False)
        else:
            self.register_buffer("mask", torch.from_numpy(mask), persistent=False)

    def project(self, image: Tensor) -> Tensor:
        """F^-1 M F of images (B, C, H, W), the real part of it where C = 1."""
        if self.axis is not None:
            return along(self.matrix, image, self.axis)
        if image.shape[1] == 1:
            spectrum = torch.fft.rfft2(image, norm="ortho") * self.symmetric_mask
            return torch.fft.irfft2(spectrum, s=image.shape[-2:], norm="ortho")
        masked = to_image(to_kspace(torch.complex(*image.unbind(1))) * self.mask)
        return torch.stack((masked.real, masked.imag), dim=1)

    def forward(self, prediction: Tensor, measured_image: Tensor) -> Tensor:
        """Correct `prediction` by `measured_image`, both (B, C, H, W) real; computed in float32 or better."""
        with torch.autocast(prediction.device.type, enabled=False):
            if prediction.dtype in (torch.bfloat16, torch.float16):
                prediction = prediction.float()
            return prediction + self.weight * (measured_image - self.project(prediction))
