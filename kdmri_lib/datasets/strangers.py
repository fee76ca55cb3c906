"""Strangers: images of no organ, which test and never train, to find what a network does with what it wasn't made for.

Neither their geometry nor their textures are those of a generator that trains: Voronoi cells, or ellipses and polygons over
one another, in a body of straight or round outline, each region of a power-law texture with an exponent, a direction and a
distribution of its own, straight lines over them. The data set's option `strangers: 6` adds a test set "strangers" of so
many, without noise the first, the others at signal-to-noise ratios from 80 to 5.
"""

import numpy as np
from scipy.spatial import cKDTree
from skimage.draw import polygon2mask
from skimage.transform import downscale_local_mean

from kdmri_lib.datasets.fields import measured, typical

FINER = 2  # times as many pixels along each axis while painting, so that edges have partial volumes
LINES = 12


def texture(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A random field (H, W) of mean 0, unit variance and at most 3, its amplitude a power of the frequency from -0.5 to -2,
    up to three times as fine across as along some direction; Gaussian, or with bright grains, or folded to ridges."""
    y, x = np.meshgrid(*[np.fft.fftfreq(n) for n in shape], indexing="ij")
    angle, across = rng.uniform(0, np.pi), rng.uniform(1, 3)
    frequency = np.hypot(y * np.cos(angle) + x * np.sin(angle), (x * np.cos(angle) - y * np.sin(angle)) * across)
    gain = np.where(frequency * max(shape) > 4, np.maximum(frequency, 1e-6) ** -rng.uniform(0.5, 2), 0)
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * gain).real
    field = field / field.std()
    field = (field, np.exp(field), np.abs(field))[rng.integers(3)]
    return np.clip((field - field.mean()) / field.std(), -3, 3)


def outline(rng: np.random.Generator, centre: np.ndarray, size: np.ndarray, corners: int) -> np.ndarray:
    """The corners (n, 2) of a polygon about `centre`, some `size` to each side: many of them make it round."""
    uneven = rng.uniform(-0.35, 0.35, corners) if corners < 20 else 0
    angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi * (np.arange(corners) + uneven) / corners
    reach = rng.uniform(0.7, 1, corners) if corners < 20 else 1
    return centre + (reach * np.stack([np.sin(angles), np.cos(angles)])).T * size


def regions(rng: np.random.Generator, shape: tuple[int, int], slices: int) -> np.ndarray:
    """Numbers of regions (slices, H, W): cells or shapes, which move a little from slice to slice."""
    extent = np.array(shape)
    pixels = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    count = int(rng.integers(15, 80))
    places, drift = rng.uniform(0, 1, (count, 2)) * extent, rng.normal(0, 0.02, (count, 2)) * extent
    if rng.uniform() < 0.5:
        return np.stack([cKDTree(places + k * drift).query(pixels)[1] for k in range(slices)])
    sizes = np.exp(rng.uniform(np.log(0.02), np.log(0.3), (count, 2))) * extent.min()
    corners = rng.choice([3, 4, 5, 7, 40], count)
    seeds = rng.integers(2**31, size=count)
    found = np.zeros((slices, *shape), int)
    for k in range(slices):
        for n in np.argsort(-sizes.prod(axis=1)):
            shape_of = np.random.default_rng(seeds[n])  # the same in every slice
            found[k][polygon2mask(shape, outline(shape_of, places[n] + k * drift[n], sizes[n], corners[n]))] = n
    return found


def stranger(
    rng: np.random.Generator, slices: int, shape: tuple[int, int], snr: float = np.inf, phase: np.ndarray | None = None
) -> np.ndarray:
    """A stranger, (slices, H, W) float32 in any unit, or complex64 at a `phase`, with noise that its mean signal is `snr`
    times as large as, in either part."""
    fine = tuple(FINER * n for n in shape)
    extent = np.array(fine)
    numbers = regions(rng, fine, slices)
    count = numbers.max() + 1
    brightness, rough = rng.uniform(0.1, 1, count), rng.uniform(0, 0.2, count)
    kind = rng.integers(4, size=count)
    body = outline(rng, extent / 2, extent * rng.uniform(0.38, 0.5, 2), int(rng.choice([5, 8, 12, 40])))
    within = polygon2mask(fine, body)
    y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in fine], indexing="ij", sparse=True)
    coil = rng.uniform(-1.5, 1.5, 2)
    shading = 1 / (1 + rng.uniform(0, 0.6) * ((y - coil[0]) ** 2 + (x - coil[1]) ** 2))
    images = []
    for number in numbers:
        textures = np.stack([texture(rng, fine) for _ in range(4)])
        signal = brightness[number] * (1 + rough[number] * np.take_along_axis(textures, kind[number][None], 0)[0])
        for _ in range(LINES):
            one, other = rng.uniform(0.1, 0.9, (2, 2)) * extent
            ends = np.stack([one, other]) + rng.uniform(1, 4) * np.array([[0, 1], [1, 0]])
            signal[polygon2mask(fine, np.concatenate([ends, ends[::-1] + rng.uniform(1, 5)]))] = rng.uniform(0, 1)
        images.append(downscale_local_mean(np.maximum(signal, 0) * within * shading, (FINER, FINER)))
    signal = np.stack(images).astype(np.float32)
    return measured(rng, signal, typical(signal) / snr, phase)
