"""Metrics, per volume and per slice, stated once.

A volume's PSNR and SSIM are computed as the published code does, so that Table 1 can be compared: the whole volume at
once, data_range the target's maximum, SSIM with slices as channels. A slice's are on its own maximum, as the published knee
numbers are, where a file holds one slice. Aggregation matters: the same images give other numbers per slice.
"""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from skimage import metrics
from torch import nn

from kdmri_lib.channels import as_channels, as_image, magnitude
from kdmri_lib.datasets.prepared import Volume

# The first two are better when higher, the last two when lower.
METRICS = {"psnr": "PSNR / dB", "ssim": "SSIM", "nmse": "NMSE", "hfe": "HFE"}


def psnr(target: np.ndarray, image: np.ndarray, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB."""
    return float(metrics.peak_signal_noise_ratio(target, image, data_range=data_range))


def ssim(target: np.ndarray, image: np.ndarray, data_range: float) -> float:
    """Structural similarity of (H, W), or of (slices, H, W) with slices as channels (7 x 7 window)."""
    slices = 0 if target.ndim == 3 else None
    return float(metrics.structural_similarity(target, image, data_range=data_range, channel_axis=slices))


def nmse(target: np.ndarray, image: np.ndarray) -> float:
    """Normalised mean squared error: ||x - y||^2 / ||x||^2."""
    return float(np.sum((target - image) ** 2, dtype=np.float64) / np.sum(target**2, dtype=np.float64))


def hfe(target: np.ndarray, image: np.ndarray) -> float:
    """High-frequency error: ||L(x - y)||^2 / ||L x||^2, L the Laplacian in the plane of each slice.

    Lower is better; it weighs what sits in edges, which PSNR hardly does. It isn't the HFN of the published code, a mean
    over slices of such a ratio with the prediction clipped to [0, 1].
    """
    error, truth = (ndimage.laplace(volume, axes=(-2, -1)) for volume in (target - image, target))
    return float(np.sum(error**2, dtype=np.float64) / np.sum(truth**2, dtype=np.float64))


def measure(target: np.ndarray, image: np.ndarray) -> dict[str, float]:
    """All metrics of a volume (slices, H, W) or a slice (H, W); the data range is the target's maximum."""
    peak = float(target.max())
    values = psnr(target, image, peak), ssim(target, image, peak), nmse(target, image), hfe(target, image)
    return dict(zip(METRICS, values, strict=True))


@torch.inference_mode()
def reconstruct(model: nn.Module | None, operator: nn.Module, image: np.ndarray, batch: int = 4) -> np.ndarray:
    """Undersample (slices, H, W), real or complex, and reconstruct it: float32 or complex64 array of the same shape;
    zero-filled when `model` is None."""
    device = next(operator.buffers()).device
    measurements = (operator(part.to(device)) for part in as_channels(image).split(batch))
    return np.concatenate([as_image(m.zero_filled if model is None else model(*m)) for m in measurements])


def evaluate(
    model: nn.Module | None, operator: nn.Module, volumes: Iterable[Volume]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reconstruct volumes and measure them; of complex ones the magnitude.

    Returns
    -------
    Two data frames: a row per volume (set, kind, person, subject, slices and the metrics) and a row per slice.
    The metrics of a reconstruction that holds NaN or infinite values are NaN.
    """
    by_volume, by_slice, hole = [], [], dict.fromkeys(METRICS, math.nan)
    for volume in volumes:
        truth, image = magnitude(volume.image), magnitude(reconstruct(model, operator, volume.image))
        sound = bool(np.isfinite(image).all())
        about = {"set": volume.split, "kind": volume.attributes["kind"]}
        about |= {"person": volume.attributes.get("person", volume.subject), "subject": volume.subject}
        by_volume.append({**about, "slices": len(image), **(measure(truth, image) if sound else hole)})
        for number, (target, result) in enumerate(zip(truth, image, strict=True)):
            # A slice without signal has no NMSE; it counts in its volume.
            if target.any():
                by_slice.append({**about, "slice": number, **(measure(target, result) if sound else hole)})
    return pd.DataFrame(by_volume), pd.DataFrame(by_slice)
