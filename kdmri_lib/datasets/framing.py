"""Slices of one size: choosing them from a volume, and cropping or padding them about their centre."""

import numpy as np
from scipy import ndimage

from kdmri_lib.errors import StudyError

LARGEST = 2048  # pixels along an axis of a slice; scanners give no more


def padded(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The image with its last two axes zero-padded or cropped to `shape` about their centre: (..., *shape)."""
    for axis, size in zip((-2, -1), shape, strict=True):
        missing, around = max(size - image.shape[axis], 0), [(0, 0)] * image.ndim
        around[axis] = (missing // 2, missing - missing // 2)
        image = np.pad(image.take(middle(image.shape[axis], size), axis), around)
    return image


def framed(volume: np.ndarray, shape: tuple[int, int], count: int | None) -> np.ndarray:
    """Evenly spaced slices of (slices, H, W), all for None, padded or cropped: (`count` or fewer, *shape).

    They go from the first to the last that holds signal: whose mean is above a tenth of the brightest slice's. None comes
    twice. Negatives become 0: `resampled` makes some beside edges, the image of a reader holds none (`values.magnitudes`).
    """
    volume = np.maximum(volume, 0)
    if count is not None:
        means = volume.mean(axis=(1, 2))
        inside = np.flatnonzero(means > 0.1 * means.max())
        volume = volume[np.unique(np.linspace(inside[0], inside[-1], count).round().astype(int))]
    return padded(volume, shape)


def pixel_factors(
    shape: tuple[int, int], spacing: tuple[float, float, float], pixel: float | None
) -> tuple[float, float]:
    """How many pixels of `pixel` mm (None: as they are) take the place of one along each axis of (H, W) slices.

    `spacing` : (slice, row, column) in mm. `StudyError` when no pixels would be left, or more than 2048 along an axis.
    """
    if pixel is None:
        return 1.0, 1.0
    _, row, column = spacing
    sizes = shape[0] * row / pixel, shape[1] * column / pixel
    if not all(0.5 < size < LARGEST + 0.5 for size in sizes):  # nor is NaN
        raise StudyError(
            f"pixels of {row:g} x {column:g} mm resampled to {pixel:g} mm give slices of {sizes[0]:.3g} x {sizes[1]:.3g}; "
            f"expected 1 to {LARGEST} (is the unit of the file's spacing right?)"
        )
    return row / pixel, column / pixel


def resampled(
    volume: np.ndarray, spacing: tuple[float, float, float], pixel: float | None
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """(slices, H, W) with pixels of `pixel` mm in the plane (cubic splines), and its (slice, row, column) spacing in mm; as
    it is where `pixel` is None, or right to within 1%. Raises as `pixel_factors` does."""
    factors = pixel_factors(volume.shape[1:], spacing, pixel)
    if max(abs(factor - 1) for factor in factors) <= 0.01:
        return volume, spacing
    # From edge to edge of the image: from centre to centre, pixels would come out smaller than `pixel`.
    finer = ndimage.zoom(volume, (1, *factors), order=3, mode="nearest", grid_mode=True)
    return finer, (spacing[0], float(pixel), float(pixel))


def middle(count: int, wanted: int | None) -> range:
    """Indices of the `wanted` in the middle of `count`, of all where it is None or more than there are."""
    wanted = min(wanted or count, count)
    return range((count - wanted) // 2, (count - wanted) // 2 + wanted)
