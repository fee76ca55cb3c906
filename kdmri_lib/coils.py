"""Several coils to one image: by sensitivities, given or estimated from the centre of k-space, or by root sum of squares.

The network reconstructs each coil's image, and these are combined: measured lines are lines of the coils' images, and of no
combination of them, so that data consistency is true of these alone. Fully sampled k-space is combined before it is
undersampled for a trial, which is exact.
"""

import numpy as np
import torch

from kdmri_lib.errors import StudyError
from kdmri_lib.fourier import root_sum_of_squares, sensitivity_weighted, to_image, to_kspace
from kdmri_lib.orders import ORDERS, to_order

CALIBRATION, KERNEL = 24, 6  # points to a side, as Uecker et al. 2014 use them
LEAST = 8  # measured lines about zero frequency


def espirit(kspace: np.ndarray, lines: np.ndarray, name: str) -> np.ndarray:
    """Sensitivities (coils, H, W) of one slice's unshifted k-space by ESPIRiT (Uecker et al. 2014), of modulus 1 together.

    Their phase is the first coil's where it is 0, so that what they combine has the first coil's phase. Nothing is cut off
    where the calibration sees no signal.

    Raises
    ------
    StudyError
        When fewer than `LEAST` contiguous `lines`, boolean (N,), are measured about zero frequency.
    """
    from sigpy.mri.app import EspiritCalib

    width = 2 * min(_run(lines[::-1]), _run(lines))
    if width < LEAST:
        raise StudyError(
            f"{name}: {width} lines about zero frequency are measured, expected at least {LEAST} to estimate sensitivities "
            "from; --coils rss needs none"
        )
    width = min(width, CALIBRATION, *kspace.shape[-2:])
    centred = to_order(torch.from_numpy(kspace), ORDERS["centred"]).numpy()
    calibration = EspiritCalib(
        centred, calib_width=width, kernel_width=min(KERNEL, width // 2), crop=0, show_pbar=False
    )
    with np.errstate(invalid="ignore", divide="ignore"):  # where the first coil's is 0
        return np.nan_to_num(calibration.run()).astype(np.complex64)


def _run(lines: np.ndarray) -> int:
    """How many of `lines` are true before the first that isn't."""
    return len(lines) if lines.all() else int(np.argmin(lines))


def combined(images: np.ndarray, sensitivities: np.ndarray) -> np.ndarray:
    """Complex (H, W) from coil images and sensitivities, both (coils, H, W), as the study combines them."""
    return sensitivity_weighted(*map(torch.from_numpy, (images, sensitivities))).numpy()


def complex_image(kspace: torch.Tensor, name: str) -> np.ndarray:
    """Complex image (H, W) of fully sampled, unshifted k-space (coils, H, W): one coil's, or several combined with
    sensitivities estimated from their centre (`espirit`)."""
    images = to_image(kspace).numpy()
    if len(images) == 1:
        return images[0]
    return combined(images, espirit(kspace.numpy(), np.ones(kspace.shape[-1], dtype=bool), name))


def combined_kspace(kspace: np.ndarray, sensitivities: np.ndarray) -> np.ndarray:
    """Fully sampled k-space (coils, H, W) as that of one coil, (1, H, W); both unshifted."""
    image = combined(to_image(torch.from_numpy(kspace)).numpy(), sensitivities)
    return to_kspace(torch.from_numpy(image[None])).numpy()


def summed_squares(images: np.ndarray) -> np.ndarray:
    """float32 (..., H, W), the root sum of squares of coil images (..., coils, H, W)."""
    return root_sum_of_squares(torch.from_numpy(images)).numpy()
