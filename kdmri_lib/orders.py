"""What k-space is: the orders that files have it in, in both domains, how to leave them and how to tell them from data.

Arrays are (..., H, W), NumPy's or what becomes one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.fft
from scipy.ndimage import fourier_shift

from kdmri_lib.errors import StudyError

AXES = (-2, -1)


class Order(NamedTuple):
    """Is zero frequency in the middle (N // 2), or at index 0; was the image's middle moved to index 0 before it was
    transformed, as `ifftshift` does, or not."""

    kspace_centred: bool
    image_shifted: bool


ORDERS = {
    "unshifted": Order(False, False),  # fft2(image), as NumPy's users have it
    "shifted": Order(True, False),  # fftshift(fft2(image))
    "centred": Order(True, True),  # fftshift(fft2(ifftshift(image))): fastMRI, ISMRMRD, BART
    "corners": Order(False, True),  # fft2(ifftshift(image))
}
DECIDED = 4.0  # times that energy about the middle or about the corners is the larger, of one order
WINDOW = 16  # its share of each axis to both sides
ONE_SIDED = 0.2  # of -2 to 2; images of heads, hearts and knees that lie in the middle have 0.4 to 1.3
EVENLY = 3.0  # times that the energy of what is called k-space is spread wider than its transform's
SLICES = 8  # with a signal; of fewer it isn't told for certain whether they are transformed
SIGNAL = 1e-4  # of the largest energy about zero frequency of the slices
MOST = 0.75  # share of that energy, which is more than a slice of an object has, unless it is in that one alone


def from_order(kspace: np.ndarray, order: Order) -> np.ndarray:
    """Complex k-space in an order that files have, as the study has it; zeros stay zeros."""
    kspace = np.fft.ifftshift(kspace, axes=AXES) if order.kspace_centred else np.asarray(kspace)
    return _moved(kspace, 1) if order.image_shifted else kspace


def to_order(kspace: np.ndarray, order: Order) -> np.ndarray:
    """Inverse of `from_order`."""
    kspace = _moved(np.asarray(kspace), -1) if order.image_shifted else np.asarray(kspace)
    return np.fft.fftshift(kspace, axes=AXES) if order.kspace_centred else kspace


def _moved(kspace: np.ndarray, sign: int) -> np.ndarray:
    """k-space of the image moved by half of each axis, N // 2."""
    plane = kspace.shape[-2:]
    return kspace * fourier_shift(np.ones(plane, kspace.dtype), [sign * (size // 2) for size in plane])


def the_order(kspace: np.ndarray, asked: str, where: str, usual: str = "") -> str:
    """Which of `ORDERS` k-space is in: the one that is asked for or, for "auto", the one that it shows; `usual`, where that
    is given and nothing that it shows speaks against it. `StudyError` by the name `where`, when it is images along one axis
    or both, or shows no order."""
    if asked not in ("auto", *ORDERS):
        raise StudyError(f"order '{asked}' is unknown; known: auto, {', '.join(ORDERS)}")
    if not kspace.any():
        return usual or "unshifted"
    if looks_like_images(kspace):
        raise StudyError(f"{where} holds images, whose energy is spread as no k-space's is; expected k-space")
    for axis, name in zip(AXES, ("H (rows)", "W (columns)"), strict=True):
        if looks_like_images(kspace, axis):
            done = "an image already, whose energy is spread as no k-space's is; expected k-space along both axes"
            raise StudyError(f"{where} is along axis {name} {done}, or other --axes")
    if asked != "auto":
        return asked
    found = Order(is_kspace_centred(kspace), is_image_shifted(kspace))
    if usual and all(shown in (None, of) for shown, of in zip(found, ORDERS[usual], strict=True)):
        return usual
    if None in found:
        what = "where zero frequency is" if found.kspace_centred is None else "where the image's middle is"
        known = f"it isn't {usual}, as of its source" if usual else f"expected --order {', '.join(ORDERS)} to say it"
        raise StudyError(f"{where}: the data don't show {what}; {known}")
    return next(name for name, order in ORDERS.items() if order == found)


def sampled(slices: Sequence[int]) -> list[int]:
    """The slices by which it is told what k-space is: the middle one, and those halfway to both ends."""
    return [slices[len(slices) * n // 4] for n in (2, 1, 3)]


def check_slices(centre: np.ndarray, where: str) -> str:
    """`StudyError` when the slices of a volume are certainly k-space still: most is in the middle one or the first, there
    is a signal in at least `SLICES`, and their transform isn't so uneven. What may be that, or an object in few slices, is
    returned in words. `centre` : (slices, ...), values about zero frequency in the plane."""
    energy = np.square(np.abs(centre.reshape(len(centre), -1)).astype(np.float64)).sum(axis=1)
    peak, total = int(energy.argmax()), len(energy)
    # The middle of slices out of the middle of a volume may be half a slice off.
    if total == 1 or not energy.any() or peak not in (0, total // 2, (total + 1) // 2):
        return ""
    # Without its phase, which may be another in each slice.
    uneven, held = looks_like_images(scipy.fft.fft(energy)[:, None]), np.count_nonzero(energy > SIGNAL * energy[peak])
    if uneven and held >= SLICES:
        most = f"most of it is in slice {peak} of {total}"
        raise StudyError(
            f"{where} is along the slices k-space still: {most}; expected slices, transformed along that axis"
        )
    if uneven or energy[peak] > MOST * energy.sum():
        few = "whether slices are transformed along their axis can't be told of so few"
        return f"most is in slice {peak} of {total}; {few}"
    return ""


def is_kspace_centred(kspace: np.ndarray) -> bool | None:
    """Whether zero frequency is in the middle, by where the energy is; None for neither."""
    energy = _energy(kspace)
    near = tuple(slice(max(0, n // 2 - max(1, n // WINDOW)), n // 2 + max(1, n // WINDOW) + 1) for n in energy.shape)
    middle, corner = energy[near].sum(), np.fft.fftshift(energy)[near].sum()
    return None if max(middle, corner) <= DECIDED * min(middle, corner) else bool(middle > corner)


def is_image_shifted(kspace: np.ndarray) -> bool | None:
    """Whether the image of k-space, zero frequency wherever, lies about its corners and not its middle; None where its
    energy is on neither side. By the first Fourier coefficient of the energy's distribution along each axis, whose angle is
    where the energy's centre lies on the circle that a periodic axis is."""
    spectrum = np.fft.fft2(_energy(scipy.fft.ifft2(np.asarray(kspace)))).real
    sided = (spectrum[1 % len(spectrum), 0] + spectrum[0, 1 % len(spectrum.T)]) / spectrum[0, 0]
    return bool(sided > 0) if abs(sided) > ONE_SIDED else None


def looks_like_images(kspace: np.ndarray, axis: int | None = None) -> bool:
    """Whether what should be k-space is images, along both axes or one of them: an image's energy is spread, its
    transform's is not, by its participation ratio (sum e)^2 / (N sum e^2), 1 where it is even, 1 / N in one point."""
    images = scipy.fft.ifftn(np.asarray(kspace), axes=AXES if axis is None else (axis,))
    energies = (_energy(values).sum(axis={-2: 1, -1: 0}.get(axis, ())) for values in (kspace, images))
    spread, transformed = (np.square(energy.sum()) / (energy.size * np.square(energy).sum()) for energy in energies)
    return bool(spread > EVENLY * transformed)


def _energy(values: np.ndarray) -> np.ndarray:
    """(H, W) float64: the squared moduli, summed over all other axes."""
    values = np.abs(np.asarray(values)).astype(np.float64)
    return np.square(values).sum(axis=tuple(range(values.ndim - 2)))


def cropped(kspace: np.ndarray, axis: int, size: int) -> np.ndarray:
    """k-space of the middle `size` pixels of its image along axis -2 or -1, as where the readout was sampled more densely
    than the field of view needs."""
    start = kspace.shape[axis] // 2 - size // 2
    image = scipy.fft.ifft(kspace, axis=axis, norm="ortho")
    return scipy.fft.fft(np.take(image, range(start, start + size), axis=axis), axis=axis, norm="ortho")
