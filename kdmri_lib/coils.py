"""Several coils to one image: by sensitivities, given or estimated from the centre of k-space, or by root sum of squares.

The network reconstructs each coil's image, and these are combined: measured lines are lines of the coils' images, and of no
combination of them, so that data consistency is true of these alone; so it does in a trial, whose k-space is undersampled
first.
"""

import math

import numpy as np
import scipy.fft

from kdmri_lib.errors import StudyError
from kdmri_lib.orders import ORDERS, to_order

CALIBRATION, KERNEL = 24, 6  # points to a side, as Uecker et al. 2014 use them
LEAST = 8  # measured lines about zero frequency


def espirit(kspace: np.ndarray, lines: np.ndarray, name: str) -> np.ndarray:
    """Sensitivities (coils, H, W) of one slice's unshifted k-space by ESPIRiT (Uecker et al. 2014), of modulus 1 together.

    What they combine has the first coil's phase. Nothing is cut off where the calibration sees no signal. `StudyError` when
    fewer than `LEAST` contiguous `lines`, boolean (N,), are measured about zero frequency.
    """
    from sigpy.mri.app import EspiritCalib

    width = 2 * int(min(np.logical_and.accumulate(half).sum() for half in (lines, lines[::-1])))
    if width < LEAST:
        expected = f"expected at least {LEAST} to estimate sensitivities from; --coils rss needs none"
        raise StudyError(f"{name}: {width} lines about zero frequency are measured, {expected}")
    width = min(width, CALIBRATION, *kspace.shape[-2:])
    centred, kernel = to_order(kspace, ORDERS["centred"]), min(KERNEL, width // 2)
    calibration = EspiritCalib(centred, calib_width=width, kernel_width=kernel, crop=0, show_pbar=False)
    with np.errstate(invalid="ignore", divide="ignore"):  # where the first coil's is 0
        return np.nan_to_num(calibration.run()).astype(np.complex64)


def combined(images: np.ndarray, sensitivities: np.ndarray) -> np.ndarray:
    """Complex (H, W) of coil images and sensitivities S, both (coils, H, W) (Roemer et al. 1990): the sum over coils of
    conj(S) image / sqrt(sum of |S|^2), 0 where no coil sees anything."""
    sensitivities = sensitivities / power_of_two(np.abs(sensitivities).max())
    weight = summed_squares(sensitivities)
    return (sensitivities.conj() * images).sum(axis=0) / np.maximum(weight, np.finfo(weight.dtype).tiny)


def complex_image(kspace: np.ndarray, name: str) -> np.ndarray:
    """Complex image (H, W) of fully sampled, unshifted k-space (coils, H, W), an array or what becomes one: one coil's, or
    several combined with sensitivities estimated from their centre (`espirit`)."""
    kspace = np.asarray(kspace)
    images = scipy.fft.ifft2(kspace, norm="ortho")
    if len(images) == 1:
        return images[0]
    return combined(images, espirit(kspace, np.ones(kspace.shape[-1], dtype=bool), name))


def summed_squares(images: np.ndarray) -> np.ndarray:
    """Real (..., H, W), the root sum of squares of coil images (..., coils, H, W)."""
    scale = power_of_two(np.abs(images).max())
    return np.linalg.norm(images / scale, axis=-3) * scale


def power_of_two(most: float) -> float:
    """What values up to `most` are divided by, exactly, before they are squared: of SI units, squares are 0 in float32."""
    return 2.0 ** math.frexp(most)[1]
