"""Data consistency: measured k-space lines correct the network's prediction (paper, eq. 2)."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from kdmri_lib.errors import StudyError
from kdmri_lib.masks import line_axis, mirrored
from kdmri_lib.operators import along, projection_matrices


class DataConsistency(nn.Module):
    """Eq. 2 on a real prediction, real part taken as the published code does.

    The prediction h becomes h + w (Re F^-1 y - Re F^-1 M F h), with w = lambda / (1 + lambda). For a line mask
    Re F^-1 M F is one real (N, N) matrix P along one axis; for any other mask it is a real FFT with the symmetrised mask
    (M(k) + M(-k)) / 2. Both are exact; the tests compare them with the complex operator in float64.

    Parameters
    ----------
    mask : boolean (H, W), unshifted.
    strength : lambda > 0, or infinity (default) for noiseless data, where measured lines replace predicted ones.
    """

    def __init__(self, mask: np.ndarray, strength: float = math.inf):
        super().__init__()
        if not strength >= 0:
            raise StudyError(f"data consistency: lambda is {strength}, expected >= 0 or infinity")
        self.weight = 1.0 if math.isinf(strength) else strength / (1 + strength)
        self.axis = line_axis(mask)
        self.shape = mask.shape
        if self.axis is None:
            symmetric = (mask.astype(float) + mirrored(mask)) / 2
            half = torch.from_numpy(symmetric[:, : mask.shape[1] // 2 + 1]).float()
            self.register_buffer("symmetric_mask", half, persistent=False)
        else:
            matrix, _ = projection_matrices(mask[:, 0] if self.axis == 0 else mask[0])
            self.register_buffer("matrix", torch.from_numpy(matrix).float(), persistent=False)

    def project(self, image: Tensor) -> Tensor:
        """Re F^-1 M F of a real image (B, 1, H, W)."""
        if self.axis is None:
            spectrum = torch.fft.rfft2(image, norm="ortho") * self.symmetric_mask
            return torch.fft.irfft2(spectrum, s=image.shape[-2:], norm="ortho")
        return along(self.matrix, image, self.axis)

    def forward(self, prediction: Tensor, measured_image: Tensor) -> Tensor:
        """Correct `prediction` by `measured_image` = Re F^-1 y, both (B, 1, H, W) real; computed in float32 or better."""
        with torch.autocast(prediction.device.type, enabled=False):
            if prediction.dtype in (torch.bfloat16, torch.float16):
                prediction = prediction.float()
            return prediction + self.weight * (measured_image - self.project(prediction))
