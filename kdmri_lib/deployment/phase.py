"""The phase of an image at low resolution, from the centre of its k-space: magnitude networks are right for none.

The centre is weighted by triangular windows, whose transform (the Fejér kernel) is nowhere negative: an image that is
nowhere negative keeps phase 0, exactly.
"""

import numpy as np
import scipy.fft

from kdmri_lib.errors import StudyError

MOST = 0.1  # rad, root mean square; so much costs brain 4x, distilled, 0.7 dB (tests/unit/deployment/test_phase.py)


def centre_of(lines: np.ndarray) -> int:
    """Largest n of which all frequencies -n to n are among the measured `lines`, boolean (N,), unshifted; -1 for none."""
    both = lines & np.roll(lines[::-1], 1)
    return int(np.logical_and.accumulate(both[: (len(lines) + 1) // 2]).sum()) - 1


def low_resolution(kspace: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Complex images (..., H, W) of the centre of unshifted k-space, as far as `lines`, measured along one axis, reach."""
    size = centre_of(lines)
    windows = [np.maximum(0, 1 - np.abs(np.fft.fftfreq(n, 1 / n)) / (size + 1)) for n in kspace.shape[-2:]]
    return scipy.fft.ifft2(kspace * np.outer(*windows).astype(np.float32), norm="ortho")


def squares(low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of low-resolution images (..., H, W), summed over each: energy times squared phase, and energy (...)."""
    energy = np.abs(low).astype(np.float64) ** 2
    return (energy * np.angle(low) ** 2).sum(axis=(-2, -1)), energy.sum(axis=(-2, -1))


def check_phase(weighted: float, energy: float, name: str, model: str) -> None:
    """`StudyError` when the root mean square of the phase, weighted by energy (`squares`, summed), is above `MOST`."""
    phase = float(np.sqrt(weighted / energy)) if energy > 0 else 0.0
    if phase > MOST:
        made = f"{model} was made for magnitudes, whose phase is 0 (expected below {MOST} rad); use a complex model"
        made += " (domain: complex), or take the phase off first (--remove-phase, which `without_phase` computes)"
        raise StudyError(f"{name}: images with a phase, {phase:.2f} rad at low resolution, but {made}")


def unit_phase(low: np.ndarray) -> np.ndarray:
    """exp(i phase) of low-resolution images."""
    modulus = np.abs(low)
    return np.divide(low, modulus, out=np.ones_like(low), where=modulus > 0)


def without_phase(kspace: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Unshifted k-space (..., H, W) of the images with `unit_phase` taken off."""
    return scipy.fft.fft2(scipy.fft.ifft2(kspace, norm="ortho") * phase.conj(), norm="ortho")
