"""Smooth random fields, the raw material of virtual subjects: bias, texture, folds, warps, phase."""

import zlib
from collections.abc import Callable

import numpy as np
from scipy import fft, ndimage

from kdmri_lib.declarations import Dataset

PHASE = 1  # random stream of a volume's phase, beside that of its image


def band_noise(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """Gaussian noise (*shape) float32, unit variance, wavelengths from `low` to `high` grid steps (soft edges)."""
    return _filtered(rng, shape, lambda f: np.exp(-((f * low) ** 4)) * (1 - np.exp(-((f * high) ** 4))))


def power_law_noise(rng: np.random.Generator, shape: tuple[int, ...], exponent: float, high: float) -> np.ndarray:
    """Gaussian noise (*shape) float32, unit variance, amplitude frequency^-exponent, no wavelength beyond `high` steps."""
    return _filtered(rng, shape, lambda f: np.where(f * high > 1, np.maximum(f, 1e-6) ** -exponent, 0))


def _filtered(rng: np.random.Generator, shape: tuple[int, ...], gain: Callable) -> np.ndarray:
    """White noise times `gain` of its frequencies, in cycles per grid step."""
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(n) for n in shape], indexing="ij", sparse=True)))
    noise = fft.fftn(rng.standard_normal(shape, dtype=np.float32), workers=1) * gain(frequency)
    noise = fft.ifftn(noise, workers=1).real
    return (noise / noise.std()).astype(np.float32)


def sheet_distance(field: np.ndarray, spacing: float, at: Callable = lambda values: values) -> np.ndarray:
    """Distance to the zero level of a smooth random field, near it: |field| / |gradient|, in the units of `spacing`.

    The zero level is a set of sheets (curves in 2-D); where two fields' sheets cross is a curve (a point). `at` samples a
    field where the distance is wanted.
    """
    slope = np.sqrt(sum(g**2 for g in np.gradient(field, spacing)))
    return np.abs(at(field)) / np.maximum(at(slope), 0.02)


def diffeomorphic_displacement(
    rng: np.random.Generator, shape: tuple[int, ...], smoothness: float, amplitude: float
) -> np.ndarray:
    """Random smooth invertible warp: a stationary velocity field, integrated by scaling and squaring (Arsigny 2006): the
    displacement (dimensions, *shape), float32. It, `smoothness` (standard deviation of the Gaussian filter) and `amplitude`
    (root mean square displacement) are in grid steps."""
    velocity = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), smoothness) for _ in shape])
    displacement = velocity * (amplitude / np.sqrt((velocity**2).mean()) / 2**6)
    grid = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float64) for n in shape], indexing="ij"))
    for _ in range(6):
        there = [ndimage.map_coordinates(d, grid + displacement, order=1, mode="nearest") for d in displacement]
        displacement = displacement + np.stack(there)
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


def measured(rng: np.random.Generator, signal: np.ndarray, sigma: float, phase: np.ndarray | None = None) -> np.ndarray:
    """What a scanner measures of `signal`: complex Gaussian noise of standard deviation `sigma` in each part, white in the
    image as in k-space, comes to it; then it is at `phase`, complex64. Without a phase its magnitude, float32 (Rician). The
    noise is as likely at any phase, so that the same `rng` gives the same magnitude with and without one."""
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32)
    real, imaginary = signal + sigma * noise[0], sigma * noise[1]
    if phase is None:
        return np.hypot(real, imaginary).astype(np.float32)
    return ((real + 1j * imaginary) * np.exp(1j * phase)).astype(np.complex64)


def smooth_phase(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """A scanner's phase (slices, H, W) in radians, float32: a few radians over the field of view, smooth, no two alike.

    Three parts (Bernstein, King and Zhou, Handbook of MRI Pulse Sequences, 2004; Noll et al., IEEE TMI 1991):

    - a constant, any: of the receiver, the coil and the path of the signal;
    - a random quadratic, 0.5 to 2.5 rad at most: eddy currents and an echo that isn't centred make a slope, receive coils
      that and a curve;
    - random waves as long as a quarter of the field of view and longer, 0.1 to 0.5 rad in standard deviation: off-resonance
      times echo time, such as 25 Hz at 2.5 ms, 0.4 rad.

    Left out: steps, as between fat and water or beside air; phase of flow; bands of balanced steady states.
    """
    bend = rng.uniform(0.5, 2.5) * (bias_field(rng, shape, 1.0) - 1)
    longest = max(shape[1:])
    waves = rng.uniform(0.1, 0.5) * band_noise(rng, shape, low=longest / 4, high=2 * longest)
    return (rng.uniform(-np.pi, np.pi) + bend + waves).astype(np.float32)


def at_declared_phase(dataset: Dataset, whose: str, image: np.ndarray, kind: str) -> tuple[np.ndarray, str]:
    """A magnitude image (slices, H, W) whose phase nobody kept, and its kind: as they are in a data set of magnitudes, in a
    complex one at a simulated phase, which its kind says."""
    phase = declared_phase(dataset, whose, len(image))
    return (image, kind) if phase is None else (image * np.exp(1j * phase), f"{kind}, simulated phase")


def declared_phase(dataset: Dataset, whose: int | str, slices: int) -> np.ndarray | None:
    """The phase that a volume of a complex data set is at, by whose it is, (slices, H, W); None where the data set is one
    of magnitudes. Of a random stream of its own, so that images are the same in both domains."""
    if dataset.domain != "complex":
        return None
    stream = whose if isinstance(whose, int) else zlib.crc32(whose.encode())
    return smooth_phase(np.random.default_rng([dataset.seed, stream, PHASE]), (slices, *dataset.shape))


def smooth_step(distance: np.ndarray, width: float = 0.5) -> np.ndarray:
    """Partial volume of an edge: 1 well inside (distance > 0), 0 well outside, a ramp of `width` to both sides."""
    return np.clip(0.5 + distance / (2 * width), 0, 1)


def paint(signal: np.ndarray, width: float, inside: np.ndarray, value) -> None:
    """Put a tissue over what is there, in place, with partial volume at its edge, where `inside` is 0."""
    share = smooth_step(inside, width)
    signal *= 1 - share
    signal += share * value


def typical(signal: np.ndarray) -> float:
    """Mean of what is above a tenth of the bright parts (the 99th percentile)."""
    return float(signal[signal > 0.1 * np.percentile(signal, 99)].mean())


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number from `low` to `high`, all orders of size alike."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
