"""Data consistency: measured k-space lines correct the network's prediction (paper, eq. 2)."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from kdmri_lib.errors import StudyError
from kdmri_lib.masks import line_axis
from kdmri_lib.operators import UndersamplingOperator, along, line_matrix


class DataConsistency(nn.Module):
    """Eq. 2 on a complex prediction of two channels, or on a real one of one, real part taken as the published code does.

    The prediction h becomes h + w (F^-1 y - F^-1 M F h), with w = lambda / (1 + lambda). For a line mask F^-1 M F is one
    real matrix along one axis (`line_matrix`), for any other the `UndersamplingOperator`. Both are exact. On real images k
    and -k are tied, and a line whose mirror wasn't measured is corrected at half strength; on complex ones every measured
    line is at full strength.

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
        if self.axis is not None:
            matrix = line_matrix(mask[:, 0] if self.axis == 0 else mask[0], channels)
            self.register_buffer("matrix", torch.from_numpy(matrix).float(), persistent=False)
        else:
            self.operator = UndersamplingOperator(mask)

    def project(self, image: Tensor) -> Tensor:
        """F^-1 M F of images (B, C, H, W), the real part of it where C = 1."""
        return self.operator(image).measured_image if self.axis is None else along(self.matrix, image, self.axis)

    def forward(self, prediction: Tensor, measured_image: Tensor) -> Tensor:
        """Correct `prediction` by `measured_image`, both (B, C, H, W) real; computed in float32 or better."""
        with torch.autocast(prediction.device.type, enabled=False):
            prediction = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
            return prediction + self.weight * (measured_image - self.project(prediction))
