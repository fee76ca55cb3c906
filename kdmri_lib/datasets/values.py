"""What the values of other people's files are: magnitudes, or not; k-space that was measured whole, or not."""

import math
import re
from pathlib import Path

import numpy as np

from kdmri_lib.errors import StudyError

BELOW_ZERO = 0.02  # share of the signal; interpolation leaves less than half of that, z-scoring half of the signal
WRAPPED = 0.3  # of the largest value, which the lowest is below 0; interpolation leaves a ninth, uint16 as int16 all
LABELS = 16  # values that differ; the coarsest image has more
PERIODS = (2 * math.pi, 360.0, 4095.0, 4096.0)  # that phases are stored in from 0: radians, degrees, 12 bits
ZERO = 2048  # phase 0 in 12 bits; of a magnitude, no value in the middle of its range is that of a tenth of an image
EVEN = 2.0  # times its even share that a sixteenth of the range may hold: air has any phase, but hardly any magnitude
AROUND = 0.1  # share of the values that one of them has, where what is around an object is set to it
JUMPS = 2.0  # times that a phase's neighbours are nearer to each other round its period; a magnitude's 1.6 at most
# BIDS, and dcm2niix's ending.
NO_MAGNITUDE = re.compile(r"(.*[-_.])?part-(phase|real|imag)([-_.].*)?|.*_(ph|imaginary)")
EMPTY = 0.01  # share of k-space; what one slice in many misses by chance is less


def magnitudes(values: np.ndarray, path: Path) -> tuple[np.ndarray, dict[str, float]]:
    """Values of an image (any shape, real) as magnitudes, and attributes: values a little below 0 beside edges, as splines
    leave them, become 0, and "below_zero" is their share of the sum of all absolute values.

    `StudyError` when that share is above 2%, as of z-scored images, phases and CT, or one is far below 0, as where unsigned
    numbers were stored as signed ones; values aren't real numbers; no more than 16 differ, as in label maps; values or the
    file's name are a phase's; there are none, all are the same, or one isn't finite.
    """
    if values.dtype.kind not in "iuf":
        raise StudyError(f"{path}: values of type {values.dtype}, expected real numbers")
    if NO_MAGNITUDE.fullmatch(path.name.lower().removesuffix(".gz").rpartition(".")[0]):
        raise StudyError(f"{path}: a phase, a real or an imaginary part by its name; expected a magnitude image")
    if values.size == 0:
        raise StudyError(f"{path}: an image of shape {values.shape}, which holds nothing")
    if not np.isfinite(values).all() or values.min() == values.max():
        raise StudyError(
            f"{path}: the same value everywhere, or holds NaN or infinite values (has a scale overflowed?)"
        )
    if _is_phase(values):
        raise StudyError(
            f"{path}: values spread evenly, with jumps of a period or about {ZERO}, from {values.min():.3g} to "
            f"{values.max():.4g}, as a phase's; expected a magnitude image"
        )
    if len(np.unique(values.flat[:: values.size // 5000 + 1])) <= LABELS and len(kinds := np.unique(values)) <= LABELS:
        raise StudyError(f"{path}: only {len(kinds)} different values (a label map?); expected a magnitude image")
    if values.min() >= 0:
        return values, {}
    below = float(-values.sum(where=values < 0, dtype=np.float64))
    share = below / float(np.abs(values).sum(dtype=np.float64))
    if share > BELOW_ZERO or values.min() < -WRAPPED * values.max():
        raise StudyError(
            f"{path}: negative values (down to {values.min():.3g}; {share:.0%} of the signal); expected a magnitude image, "
            "not z-scores, phases or CT, nor the brightest of unsigned numbers (uint16) stored as signed ones"
        )
    return np.maximum(values, 0), {"below_zero": round(share, 6)}


def _is_phase(values: np.ndarray) -> bool:
    """Whether values fill a phase's period from 0 evenly; or, where what is around an object is set to one value, that is
    phase 0 in 12 bits, or they jump by the period between neighbours within it. A phase that never wraps isn't told from a
    magnitude where it has 0 around it, or little air."""
    least, most = float(values.min()), float(values.max())
    kinds, times = np.unique(values.flat[:: values.size // 5000 + 1], return_counts=True)
    around = times.max() >= AROUND * times.sum()
    if around and kinds[times.argmax()] == ZERO and least >= 0 and most <= 2 * ZERO:
        return True
    period = next((p for p in PERIODS if abs(most - p) <= 0.01 * p), 0.0)
    if abs(least) > 0.01 * most or not period:
        return False
    if np.histogram(values, bins=16, range=(0, most))[0].max() < EVEN * values.size / 16:
        return True
    if not around:
        return False
    inside, plain, circular = values != kinds[times.argmax()], 0.0, 0.0
    for axis in range(max(0, values.ndim - 2), values.ndim):
        pairs = np.delete(inside, 0, axis) & np.delete(inside, -1, axis)
        apart = np.abs(np.diff(values.astype(np.float32), axis=axis)[pairs]).astype(np.float64)
        plain, circular = plain + (apart**2).sum(), circular + (np.minimum(apart, period - apart) ** 2).sum()
    return plain > JUMPS * circular


def measured_whole(kspace: np.ndarray, path: Path | str, centred: bool) -> None:
    """`StudyError` when a slice of k-space (coils, H, W) has holes: points that are 0 in all coils, between others that
    aren't, in a row or a column. `centred` : whether zero frequency is in the middle.

    What lies beyond the measured part (zero-filling, partial Fourier, cut corners) is no hole. More than 1% are refused: a
    truth that is undersampled itself would teach its own aliasing.
    """
    measured = (kspace != 0).any(axis=0)
    if not centred:
        measured = np.fft.fftshift(measured)
    holes = np.zeros_like(measured)
    for axis in (0, 1):
        before = np.logical_or.accumulate(measured, axis=axis)
        after = np.flip(np.logical_or.accumulate(np.flip(measured, axis), axis=axis), axis)
        holes |= before & after & ~measured
    if (share := holes.sum() / max(1, (holes | measured).sum())) > EMPTY:
        raise StudyError(f"{path}: undersampled ({share:.0%} of its k-space is empty); expected fully sampled k-space")
