"""Which lines, or points, of k-space are measured: boolean (H, W) arrays over unshifted k-space.

On the paper's grids the nine Cartesian masks are the published ones (`data/published_masks.json`). On others, and by other
seeds, masks are drawn by the rules that the published ones follow: `cartesian_mask` (brain, cardiac) and `uniform_lines`
(knee). An acceleration that isn't between 1 and the number of lines is refused (`StudyError`).
"""

import json
import zlib
from pathlib import Path

import numpy as np

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT, read_json

PUBLISHED = PROJECT / "data" / "published_masks.json"
# (H, W), and the axis that a mask varies on.
GRIDS = {"brain": ((240, 240), 0), "cardiac": ((150, 150), 0), "knee": ((640, 368), 1)}
FACTORS = (4, 5, 8)
CENTRE = 10  # contiguous lines around zero frequency in the published brain and cardiac masks
CENTRE_SHARE = 0.08  # of all lines, in the knee's


def frequencies(size: int) -> np.ndarray:
    """Whole frequencies of an unshifted axis: 0, 1, ..., -1."""
    return np.rint(np.fft.fftfreq(size) * size).astype(int)


def central(size: int, count: int) -> np.ndarray:
    """The `count` frequencies around zero of an unshifted axis, one more below where it is even: boolean (size,)."""
    return (frequencies(size) >= -(count // 2)) & (frequencies(size) < count - count // 2)


def kept(size: int, acceleration: float) -> int:
    """floor(size / acceleration), the lines or points that are measured of so many."""
    if not 1 <= acceleration <= size:
        raise StudyError(f"undersampling mask: acceleration {acceleration} of {size} lines, expected 1 to {size}")
    return int(size // acceleration)


def drawn(chosen: np.ndarray, weight: np.ndarray, count: int, seed: int | list[int]) -> np.ndarray:
    """`chosen` places of k-space and as many others as make `count`, each drawn at most once, by these weights."""
    missing = count - int(chosen.sum())
    if missing:
        weight = np.where(chosen, 0.0, weight).ravel()
        others = np.random.default_rng(seed).choice(weight.size, missing, replace=False, p=weight / weight.sum())
        chosen.ravel()[others] = True
    return chosen


def uniform_lines(size: int, acceleration: float, seed: int | list[int]) -> np.ndarray:
    """Frequencies as the published knee masks keep them, boolean (size,), unshifted: fastMRI's random mask (Zbontar et al.
    2018), the centre's share of lines, and each other with the same probability, so that about size / acceleration are
    kept. Seed 1 at 368 lines gives the published ones."""
    kept(size, acceleration)
    centre = round(CENTRE_SHARE * size)
    chosen = np.random.RandomState(seed).uniform(size=size) < (size / acceleration - centre) / (size - centre)
    first = (size - centre + 1) // 2
    chosen[first : first + centre] = True
    return np.fft.ifftshift(chosen)


def mask_of_lines(chosen: np.ndarray, shape: tuple[int, int], axis: int) -> np.ndarray:
    """The (H, W) mask of whole lines that varies on `axis` as the boolean array `chosen`."""
    return np.broadcast_to(chosen[:, None] if axis == 0 else chosen[None, :], shape).copy()


def cartesian_mask(
    shape: tuple[int, int], acceleration: float, axis: int = 0, centre: int = CENTRE, seed: int | list[int] = 0
) -> np.ndarray:
    """Cartesian mask of whole lines, as the published brain and cardiac masks keep them: boolean (H, W), unshifted.

    Of the N lines across `axis` floor(N / acceleration): `centre` contiguous ones around zero frequency; the others are
    drawn, each at most once, with weights of a Gaussian (standard deviation N / 10, 1 at its top) over a uniform floor of
    1 / (2 acceleration).
    """
    size = shape[axis]
    count = kept(size, acceleration)
    weight = np.exp(-0.5 * (frequencies(size) / (size / 10)) ** 2) + 1 / (2 * acceleration)
    return mask_of_lines(drawn(central(size, min(centre, count)), weight, count, seed), shape, axis)


def gaussian_mask_2d(shape: tuple[int, int], acceleration: float, centre: int = 10, seed: int = 0) -> np.ndarray:
    """Random 2-D mask, boolean (H, W), unshifted, of floor(H W / acceleration) points: a full centre x centre block,
    further points zero-mean Gaussian over both frequencies."""
    chosen = np.outer(*(central(size, centre) for size in shape))
    count = kept(shape[0] * shape[1], acceleration)
    if count <= chosen.sum():
        nothing = f"leave nothing outside the {centre}x{centre} centre"
        raise StudyError(f"2-D mask: {count} points at {acceleration}x {nothing}")
    rows, columns = (frequencies(size) / (size / 6) for size in shape)
    weight = np.exp(-0.5 * (rows[:, None] ** 2 + columns[None, :] ** 2))
    return drawn(chosen, weight, count, seed)


def truncation_mask(shape: tuple[int, int], factor: float) -> np.ndarray:
    """Low resolution: the central H / factor x W / factor block of k-space (appendix A: 64 x 64 of 256 x 256), boolean
    (H, W), unshifted. What it leaves, zero-filled, rings beside edges (Gibbs)."""
    return np.outer(*(central(size, kept(size, factor)) for size in shape))


def is_published(name: str, acceleration: float, shape: tuple[int, int]) -> bool:
    """Whether the paper's authors published a mask of this data set, acceleration and grid."""
    return name in GRIDS and GRIDS[name][0] == tuple(shape) and acceleration in FACTORS


def published_mask(
    name: str, acceleration: float, shape: tuple[int, int] | None = None, seed: int | None = None
) -> np.ndarray:
    """The published mask of "brain", "cardiac" or "knee" at 4x, 5x or 8x; (H, W) boolean, unshifted.

    With a `seed`, at another acceleration, or on a grid of another `shape`, one drawn by the published ones' rule, on
    their axis and with their centre's share. Each data set, acceleration and grid draws from a stream of its own.
    """
    if name not in GRIDS:
        raise StudyError(f"no published mask for '{name}'; known: {', '.join(GRIDS)}")
    grid, axis = GRIDS[name]
    shape = tuple(shape or grid)
    if seed is None and is_published(name, acceleration, shape):
        return read_lines(PUBLISHED, name, acceleration, shape)
    stream = [seed or 0, zlib.crc32(f"{name} {acceleration:g}x {shape[0]}x{shape[1]}".encode())]
    if name == "knee":
        return mask_of_lines(uniform_lines(shape[axis], acceleration, stream), shape, axis)
    return cartesian_mask(shape, acceleration, axis, max(2, CENTRE * shape[axis] // grid[axis]), stream)


def read_lines(path: Path, name: str, acceleration: float, shape: tuple[int, int]) -> np.ndarray:
    """The mask that a JSON file of kept lines holds for a data set and an acceleration: (H, W) boolean, unshifted.

    Under "<name>_<acceleration>x" stand "shape" (H, W), "axis", the one that the mask varies on, and "kept", the indices of
    the kept lines, unshifted (zero frequency is 0). `StudyError` when it isn't there, is of another grid, can't be, or has
    a number of lines that is another acceleration's (by more than 15%).
    """
    where = f"{path}, mask '{name}_{acceleration:g}x'"
    try:
        entry = read_json(path)[f"{name}_{acceleration:g}x"]
        grid, axis, lines = tuple(entry["shape"]), entry["axis"], entry["kept"]
    except (KeyError, TypeError) as error:
        raise StudyError(f"{where}: not there, or without shape, axis and kept ({error})") from None
    if grid != tuple(shape):
        raise StudyError(f"{where}: a grid of {grid}, expected {tuple(shape)}")
    if axis not in (0, 1) or not isinstance(lines, list) or any(type(line) is not int for line in lines):
        raise StudyError(f"{where}: expected axis 0 or 1 and a list of whole numbers, found {json.dumps(entry)[:80]}")
    size = grid[axis]
    if wrong := sorted({line for line in lines if lines.count(line) > 1 or not 0 <= line < size}):
        raise StudyError(f"{where}: lines {wrong} are there more than once, or aren't among 0 to {size - 1}")
    if not abs(len(lines) * acceleration - size) <= 0.15 * size:
        expected = f"expected about {size / acceleration:.0f}; are lines missing?"
        raise StudyError(f"{where}: {len(lines)} of {size} lines, {expected}")
    return centre_measured(mask_of_lines(np.isin(np.arange(size), lines), grid, axis), where)


def centre_measured(mask: np.ndarray, name: str) -> np.ndarray:
    """Return an (H, W) mask that was read from a file; `StudyError` when zero frequency, at index 0, isn't measured."""
    if not mask[0, 0]:
        expected = "expected an unshifted mask, with zero frequency at index 0"
        raise StudyError(
            f"{name}: zero frequency isn't measured; {expected} (numpy.fft.ifftshift takes a centred one there)"
        )
    return mask


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
