"""Which lines, or points, of k-space are measured: boolean (H, W) arrays over unshifted k-space, made from numbers alone.

The nine Cartesian masks of the study have the line counts of the published ones (`PUBLISHED_LINES`); elsewhere a mask keeps
floor(N / acceleration) lines. One mask per data set and acceleration, seeded.
"""

from typing import NamedTuple

import numpy as np

from kdmri_lib.errors import StudyError


class LineCount(NamedTuple):
    """Kept lines of one published mask: the grid's `shape`, the `axis` the mask varies on, `kept`, and the `centre`."""

    shape: tuple[int, int]
    axis: int
    kept: int
    centre: int


PUBLISHED_LINES = {
    (name, factor): LineCount(shape, axis, kept, centre)
    for name, shape, axis, centre, counts in [
        ("cardiac", (150, 150), 0, 10, (37, 30, 18)),
        ("brain", (240, 240), 0, 10, (60, 48, 30)),
        # 30 is the published setting; 29 lines can be counted contiguous in the published masks.
        ("knee", (640, 368), 1, 29, (94, 74, 50)),
    ]
    for factor, kept in zip((4, 5, 8), counts, strict=True)
}


def gaussian_lines(size: int, kept: int, centre: int, rng: np.random.Generator, width: float = 1 / 6) -> np.ndarray:
    """Choose `kept` of `size` frequencies: a contiguous centre block, the rest zero-mean Gaussian, each at most once.

    Returns a boolean (size,) array over unshifted frequencies. `width` is the Gaussian's standard deviation as a
    fraction of `size`.
    """
    if not 0 < kept <= size:
        raise StudyError(f"undersampling mask: {kept} of {size} lines kept; expected 1 to {size}")
    if centre > kept:
        raise StudyError(f"undersampling mask: centre block of {centre} lines exceeds the {kept} lines kept")
    frequency = np.rint(np.fft.fftfreq(size) * size).astype(int)
    chosen = (frequency >= -(centre // 2)) & (frequency < centre - centre // 2)
    if kept > centre:
        weight = np.where(chosen, 0.0, np.exp(-0.5 * (frequency / (width * size)) ** 2))
        chosen[rng.choice(size, kept - centre, replace=False, p=weight / weight.sum())] = True
    return chosen


def cartesian_mask(
    shape: tuple[int, int],
    acceleration: float,
    axis: int = 0,
    centre: int = 10,
    seed: int = 0,
    lines: int | None = None,
) -> np.ndarray:
    """Cartesian undersampling mask of whole lines.

    Parameters
    ----------
    shape : (H, W) of the k-space grid.
    acceleration : >= 1; floor(N / acceleration) lines are kept unless `lines` says how many.
    axis : the axis that the mask varies on (the lines run along the other one).
    centre : lines in the contiguous block around zero frequency.

    Returns
    -------
    boolean (H, W) array, unshifted.
    """
    _check_acceleration(acceleration)
    kept = int(shape[axis] // acceleration) if lines is None else lines
    chosen = gaussian_lines(shape[axis], kept, min(centre, kept), np.random.default_rng(seed))
    return np.broadcast_to(chosen[:, None] if axis == 0 else chosen[None, :], shape).copy()


def published_mask(name: str, acceleration: int, shape: tuple[int, int] | None = None, seed: int = 0) -> np.ndarray:
    """Mask with the paper's line count for `name` ("cardiac", "brain", "knee") at 4x, 5x or 8x.

    A grid of another `shape` keeps the published axis and the centre's share, and floor(N / acceleration) lines.
    """
    _check_acceleration(acceleration)
    known = PUBLISHED_LINES.get((name, acceleration)) or PUBLISHED_LINES.get((name, 4))
    if known is None:
        raise StudyError(f"no published mask for '{name}'; known: brain, cardiac, knee")
    shape = tuple(shape or known.shape)
    if shape == known.shape and (name, acceleration) in PUBLISHED_LINES:
        return cartesian_mask(shape, acceleration, known.axis, known.centre, seed, known.kept)
    centre = max(2, known.centre * shape[known.axis] // known.shape[known.axis])
    return cartesian_mask(shape, acceleration, known.axis, centre, seed)


def gaussian_mask_2d(shape: tuple[int, int], acceleration: float, centre: int = 10, seed: int = 0) -> np.ndarray:
    """Random 2-D mask: a full centre x centre block, further points zero-mean Gaussian over both frequencies.

    Returns a boolean (H, W) array, unshifted, with floor(H * W / acceleration) points.
    """
    _check_acceleration(acceleration)
    rows, columns = (np.rint(np.fft.fftfreq(n) * n) for n in shape)
    half = centre // 2
    chosen = np.logical_and.outer(
        (rows >= -half) & (rows < centre - half), (columns >= -half) & (columns < centre - half)
    )
    kept = int(shape[0] * shape[1] // acceleration)
    if kept <= chosen.sum():
        raise StudyError(
            f"2-D mask: {kept} points at {acceleration}x leave nothing outside the {centre}x{centre} centre"
        )
    spread = 0.5 * ((rows[:, None] / (shape[0] / 6)) ** 2 + (columns[None, :] / (shape[1] / 6)) ** 2)
    weight = np.where(chosen, 0.0, np.exp(-spread)).ravel()
    further = np.random.default_rng(seed).choice(
        weight.size, kept - int(chosen.sum()), replace=False, p=weight / weight.sum()
    )
    chosen.ravel()[further] = True
    return chosen


def truncation_mask(shape: tuple[int, int], factor: float) -> np.ndarray:
    """Low resolution: the central H / factor x W / factor block of the centred k-space (appendix A: 64 x 64 of 256 x 256).

    Returns a boolean (H, W) array, unshifted. What it leaves, zero-filled, rings beside edges (Gibbs): a sharp cut in
    k-space is a convolution with a sinc in the image.
    """
    _check_acceleration(factor)
    mask = np.ones(shape, dtype=bool)
    for axis, size in enumerate(shape):
        kept = int(size // factor)
        frequency = np.rint(np.fft.fftfreq(size) * size)
        inside = (frequency >= -(kept // 2)) & (frequency < kept - kept // 2)
        mask &= inside[:, None] if axis == 0 else inside[None, :]
    return check_mask(mask, shape, f"truncation to a {factor:g}th")


def check_mask(mask: np.ndarray, shape: tuple[int, int], name: str = "undersampling mask") -> np.ndarray:
    """Return `mask` as boolean; `StudyError` when its shape differs from `shape`, isn't 0/1, or keeps no line."""
    mask = np.asarray(mask)
    if mask.shape != tuple(shape):
        raise StudyError(f"{name}: shape {mask.shape}, expected {tuple(shape)}")
    if mask.dtype != bool:
        if not np.isin(mask, (0, 1)).all():
            raise StudyError(f"{name}: values other than 0 and 1")
        mask = mask.astype(bool)
    if not mask.any():
        raise StudyError(f"{name}: keeps no line of k-space")
    return mask


def line_axis(mask: np.ndarray) -> int | None:
    """The axis (0 or 1) that a mask of whole lines varies on; None when it isn't made of whole lines."""
    if (mask == mask[:, :1]).all():
        return 0
    if (mask == mask[:1, :]).all():
        return 1
    return None


def mirrored(mask: np.ndarray) -> np.ndarray:
    """The mask of the points -k for the points k of an unshifted mask (H, W)."""
    return np.roll(np.flip(mask), 1, axis=(0, 1))


def unmirrored_share(mask: np.ndarray) -> float:
    """Share of the kept k-space points whose mirror point isn't kept: there data consistency works at half strength."""
    return float((mask & ~mirrored(mask)).sum() / mask.sum())


def _check_acceleration(acceleration: float) -> None:
    if not acceleration >= 1:
        raise StudyError(f"acceleration {acceleration}: expected a number of at least 1")
