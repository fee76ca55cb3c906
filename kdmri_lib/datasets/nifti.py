"""Reading NIfTI volumes in one orientation, and framing slices on a grid."""

from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from kdmri_lib.errors import StudyError


def padded(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Zero-pad or crop the last two axes about their centre."""
    for axis, size in ((-2, shape[0]), (-1, shape[1])):
        surplus = image.shape[axis] - size
        if surplus >= 0:
            image = image.take(range(surplus // 2, surplus // 2 + size), axis=axis)
        else:
            pad = [(0, 0)] * image.ndim
            pad[axis] = (-surplus // 2, -surplus - (-surplus // 2))
            image = np.pad(image, pad)
    return image


def axial_volume(path: Path, pixel: float | None = None) -> np.ndarray:
    """Read a 3-D NIfTI volume as (slices, H, W) float32 axial slices in radiological view, from feet to head.

    Rows run from the subject's front to back, columns from right to left, whatever orientation the file is stored in.
    With `pixel` (mm), a volume whose pixels in the plane are another size by more than 1% is resampled (cubic splines).

    Raises
    ------
    StudyError
        When the file is missing, damaged, not 3-D, or holds NaN, infinite values or nothing but zeros.
    """
    if not Path(path).exists():
        raise StudyError(f"{path}: no such file")
    try:
        volume = nibabel.as_closest_canonical(nibabel.load(path))
        image = np.asarray(volume.dataobj, dtype=np.float32)
    except Exception as error:  # nibabel, gzip and zlib raise many kinds on damaged files
        raise StudyError(f"{path}: not a readable NIfTI volume, or cut short ({error})") from None
    if image.ndim == 4 and image.shape[3] == 1:
        image = image[..., 0]
    if image.ndim != 3:
        raise StudyError(f"{path}: {image.ndim}-D image of shape {image.shape}, expected one 3-D volume")
    if not np.isfinite(image).all() or not image.any():
        raise StudyError(f"{path}: all zero, or holds NaN or infinite values")
    slices = image.transpose(2, 1, 0)[:, ::-1, ::-1]
    if pixel is not None:
        across, along, _ = volume.header.get_zooms()[:3]
        if max(abs(along / pixel - 1), abs(across / pixel - 1)) > 0.01:
            slices = ndimage.zoom(slices, (1, along / pixel, across / pixel), order=3)
    return slices


def framed_slices(path: Path, shape: tuple[int, int], count: int, pixel: float | None = None) -> np.ndarray:
    """`count` evenly spaced axial slices of a NIfTI volume, padded or cropped to `shape`: (slices, H, W), never negative.

    `pixel` as in `axial_volume`. Only slices that hold signal are taken: a mean above a tenth of the brightest slice's.
    """
    volume = np.maximum(axial_volume(path, pixel), 0)
    means = volume.mean(axis=(1, 2))
    inside = np.flatnonzero(means > 0.1 * means.max())
    chosen = np.unique(np.linspace(inside[0], inside[-1], count).round().astype(int))
    return padded(volume[chosen], shape)
