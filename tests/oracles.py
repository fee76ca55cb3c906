"""What the study's operators are compared with: the discrete Fourier transform by its definition, in complex128."""

import numpy as np


def dft_matrix(n: int) -> np.ndarray:
    """The orthonormal DFT of n points."""
    return np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / np.sqrt(n)


def direct_dft(image: np.ndarray) -> np.ndarray:
    """The orthonormal 2-D DFT by its definition, without any FFT."""
    return dft_matrix(image.shape[0]) @ image @ dft_matrix(image.shape[1]).T


def inverse_dft(kspace: np.ndarray) -> np.ndarray:
    """The inverse of `direct_dft`, whose matrices are unitary."""
    return np.conj(direct_dft(np.conj(kspace)))


def random_mask(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> np.ndarray:
    """A random mask of whole "rows" or "columns" or of "points", zero frequency kept."""
    varying = {"rows": (shape[0], 1), "columns": (1, shape[1]), "points": shape}[kind]
    mask = rng.random(varying) < 0.4
    mask[0, 0] = True
    return np.broadcast_to(mask, shape).copy()
