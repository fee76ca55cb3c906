"""Smooth random fields, the raw material of virtual subjects: bias, texture, folds, warps."""

from collections.abc import Callable

import numpy as np
from scipy import fft, ndimage


def band_noise(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """Gaussian noise (*shape) float32, unit variance, wavelengths from `low` to `high` grid steps (soft edges)."""
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(n) for n in shape], indexing="ij", sparse=True)))
    gain = np.exp(-((frequency * low) ** 4)) * (1 - np.exp(-((frequency * high) ** 4)))
    noise = fft.ifftn(fft.fftn(rng.standard_normal(shape, dtype=np.float32), workers=1) * gain, workers=1).real
    return (noise / noise.std()).astype(np.float32)


def power_law_noise(rng: np.random.Generator, shape: tuple[int, ...], exponent: float, high: float) -> np.ndarray:
    """Gaussian noise (*shape) float32, unit variance, amplitude frequency^-exponent, no wavelength beyond `high` steps."""
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(n) for n in shape], indexing="ij", sparse=True)))
    gain = np.where(frequency * high > 1, np.maximum(frequency, 1e-6) ** -exponent, 0)
    noise = fft.ifftn(fft.fftn(rng.standard_normal(shape, dtype=np.float32), workers=1) * gain, workers=1).real
    return (noise / noise.std()).astype(np.float32)


def sheet_distance(field: np.ndarray, spacing: float, at: Callable = lambda values: values) -> np.ndarray:
    """Distance to the zero level of a smooth random field, near it: |field| / |gradient|, in the units of `spacing`.

    The zero level is a set of sheets (curves in 2-D); where two fields' sheets cross is a curve (a point). `at` samples
    a field where the distance is wanted; the result has the shape that it gives, the field's by default.
    """
    slope = np.sqrt(sum(g**2 for g in np.gradient(field, spacing)))
    return np.abs(at(field)) / np.maximum(at(slope), 0.02)


def diffeomorphic_displacement(
    rng: np.random.Generator, shape: tuple[int, ...], smoothness: float, amplitude: float, doublings: int = 6
) -> np.ndarray:
    """Random smooth invertible warp: a stationary velocity field, integrated by scaling and squaring (Arsigny 2006).

    `smoothness` (standard deviation of the Gaussian filter) and `amplitude` (root mean square displacement) are in grid
    steps. Returns the displacement (dimensions, *shape), float32, to be added to the grid's coordinates.
    """
    velocity = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), smoothness) for _ in shape])
    displacement = velocity * (amplitude / np.sqrt((velocity**2).mean()) / 2**doublings)
    grid = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float64) for n in shape], indexing="ij"))
    for _ in range(doublings):
        displacement = displacement + np.stack(
            [ndimage.map_coordinates(d, grid + displacement, order=1, mode="nearest") for d in displacement]
        )
    return displacement.astype(np.float32)


def bias_field(rng: np.random.Generator, shape: tuple[int, int, int], amplitude: float) -> np.ndarray:
    """Smooth multiplicative receive field (slices, H, W) around 1: random quadratic, ±`amplitude` at most."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    terms = [*axes, axes[1] * axes[2], axes[0] * axes[1], axes[0] * axes[2], *(a**2 for a in axes)]
    field = sum(rng.standard_normal() * term for term in terms)
    field = field - field.mean()
    return 1 + amplitude * field / np.abs(field).max()


def point_spread(image: np.ndarray, width: float) -> np.ndarray:
    """(slices, H, W) blurred within each slice as weighted k-space blurs, float32: a Gaussian of `width` pixels at half
    its height. In k-space, since a kernel sampled on the pixels is no Gaussian where it is this narrow."""
    sigma = width / np.sqrt(8 * np.log(2))
    kspace = ndimage.fourier_gaussian(fft.fft2(image, workers=1), (0, sigma, sigma))
    return fft.ifft2(kspace, workers=1).real.astype(np.float32)


def rician(rng: np.random.Generator, signal: np.ndarray, sigma: float) -> np.ndarray:
    """Magnitude of `signal` plus complex Gaussian noise, float32; `sigma`: standard deviation of each of its parts."""
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32)
    return np.hypot(signal + sigma * noise[0], sigma * noise[1]).astype(np.float32)


def smooth_step(distance: np.ndarray, width: float = 0.5) -> np.ndarray:
    """Partial volume of an edge: 1 well inside (distance > 0), 0 well outside, a ramp of `width` to both sides."""
    return np.clip(0.5 + distance / (2 * width), 0, 1)
