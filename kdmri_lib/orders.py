"""What k-space is: the orders that files have it in, in both domains, how to leave them and how to tell them from data.

Arrays are (..., H, W), NumPy's or what becomes one.
"""

from typing import NamedTuple

import numpy as np
import scipy.fft
from scipy.ndimage import fourier_shift

from kdmri_lib.errors import StudyError

AXES = (-2, -1)


class Order(NamedTuple):
    """How k-space is laid out: is zero frequency in the middle (N // 2), or at index 0; was the image's middle moved to
    index 0 before the transform, as `ifftshift` does, or not."""

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


def the_order(kspace: np.ndarray, asked: str, where: str) -> str:
    """Which of `ORDERS` k-space is in: the one that is asked for or, for "auto", the one that it shows. `StudyError` by the
    name `where`, when it is images, or shows none."""
    if asked not in ("auto", *ORDERS):
        raise StudyError(f"order '{asked}' is unknown; known: auto, {', '.join(ORDERS)}")
    if looks_like_images(kspace):
        raise StudyError(f"{where} holds images, whose energy is spread as no k-space's is; expected k-space")
    if asked != "auto":
        return asked
    found = Order(is_kspace_centred(kspace), is_image_shifted(kspace))
    if None in found:
        what = "where zero frequency is" if found.kspace_centred is None else "where the image's middle is"
        raise StudyError(f"{where}: the data don't show {what}; expected --order {', '.join(ORDERS)} to say it")
    return next(name for name, order in ORDERS.items() if order == found)


def is_kspace_centred(kspace: np.ndarray) -> bool | None:
    """Whether zero frequency is in the middle, by where the energy is; None for neither."""
    energy = _energy(kspace)
    near = tuple(slice(max(0, n // 2 - max(1, n // WINDOW)), n // 2 + max(1, n // WINDOW) + 1) for n in energy.shape)
    middle, corner = energy[near].sum(), np.fft.fftshift(energy)[near].sum()
    return None if max(middle, corner) <= DECIDED * min(middle, corner) else bool(middle > corner)


def is_image_shifted(kspace: np.ndarray) -> bool | None:
    """Whether the image of k-space, zero frequency wherever, lies about its corners and not its middle; None where its
    energy is on neither side.

    The sum over both axes of the first Fourier coefficient of the energy's distribution along the axis: its angle is where
    the energy's centre lies on the circle that a periodic axis is.
    """
    spectrum = np.fft.fft2(_energy(scipy.fft.ifft2(np.asarray(kspace)))).real
    sided = (spectrum[1 % len(spectrum), 0] + spectrum[0, 1 % len(spectrum.T)]) / spectrum[0, 0]
    return bool(sided > 0) if abs(sided) > ONE_SIDED else None


def looks_like_images(kspace: np.ndarray) -> bool:
    """Whether what should be k-space is images: an image's energy is spread, its transform's is not.

    Spread is the participation ratio of the energy, (sum e)^2 / (N sum e^2): 1 where it is even, 1 / N in one point.
    """

    def spread(energy: np.ndarray) -> float:
        return float(energy.sum() ** 2 / (energy.size * np.square(energy).sum()))

    return spread(_energy(kspace)) > EVENLY * spread(_energy(scipy.fft.ifft2(np.asarray(kspace))))


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
