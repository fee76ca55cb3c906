"""How much detail images hold: their mean power by spatial frequency."""

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

BIN = 0.02  # cycles per pixel
STRUCTURE = (0.02, 0.1)  # cycles per pixel: the head's shape and larger parts, without its mean brightness


def radial_spectrum(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean power per k-space sample of (slices, H, W), in the image's units squared, on rings `BIN` wide up to 0.5 cycles
    per pixel: the rings' middles, and their power, (25,) each. White noise of variance s² has power s² on every ring."""
    power = (np.abs(np.fft.fft2(image, norm="ortho")) ** 2).mean(axis=0)
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n) for n in image.shape[1:]], indexing="ij"))
    count = round(0.5 / BIN)
    ring = (radius / BIN + 1e-9).astype(int)  # a frequency on an edge belongs to the ring that begins there
    with np.errstate(invalid="ignore"):  # small images have no sample on some rings: NaN
        return (np.arange(count) + 0.5) * BIN, ndimage.mean(power, ring, np.arange(count))


def relative_to_zero(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, and the radial spectrum of (slices, H, W) over the mean power at zero frequency."""
    frequency, power = radial_spectrum(image)
    zero = np.abs(image.sum(axis=(1, 2))) ** 2 / image[0].size
    return frequency, power / zero.mean()


def relative_to_structure(frequency: np.ndarray, power: np.ndarray) -> np.ndarray:
    """A radial spectrum over its power in the band `STRUCTURE`, each ring by its area, so that images compare whatever
    their brightness is and however much of the field of view is filled, which make up most of the power below it."""
    band = (frequency > STRUCTURE[0]) & (frequency < STRUCTURE[1])
    return power / np.nansum(power[band] * frequency[band]) * frequency[band].sum()


def mean_spectrum(images: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies, and the mean of the volumes' radial spectra relative to structure; volumes (slices, H, W) in [0, 1]."""
    frequencies, powers = zip(*(radial_spectrum(image) for image in images), strict=True)
    return frequencies[0], relative_to_structure(frequencies[0], np.mean(powers, axis=0))
