"""The sample scan in `data/sample`: what a scanner would measure of three slices of a person's head, at 4x.

Simulated from a magnitude image: noise is added to its k-space, and all but the lines of the published brain mask are left
out. The image has no phase, as no scanner's has, so that magnitude networks can be tried on it.
"""

from pathlib import Path

import h5py
import numpy as np

from kdmri_lib.datasets import people
from kdmri_lib.datasets.framing import padded
from kdmri_lib.masks import published_mask
from kdmri_lib.storage import PROJECT, atomic_write

PATH = PROJECT / "data" / "sample" / "scan.h5"
PERSON, SHAPE = people.PEOPLE["colin27"], (240, 240)
NOISE = 0.005  # standard deviation of the real and of the imaginary part, of the image's maximum; orthonormal FFT


def sample() -> tuple[np.ndarray, np.ndarray]:
    """The true image (slices, H, W) of at most 1, and k-space of the same shape, complex64, centred in both domains."""
    image, _ = people.make(str(people.FOLDER / PERSON.file), 3)
    image = padded(image / image.max(), SHAPE)
    noise = np.random.default_rng(0).normal(scale=NOISE, size=(2, *image.shape))
    kspace = np.fft.fft2(np.fft.ifftshift(image, axes=(1, 2)), norm="ortho") + noise[0] + 1j * noise[1]
    kspace = kspace * published_mask("brain", 4, SHAPE)
    return image, np.fft.fftshift(kspace, axes=(1, 2)).astype(np.complex64)


def write(path: Path = PATH) -> None:
    """Write the scan as HDF5, with what it is."""
    with atomic_write(path) as temporary, h5py.File(temporary, "w", locking=False) as file:
        file.create_dataset("kspace", data=sample()[1], compression="gzip", shuffle=True)
        file.attrs["origin"] = f"simulated from data/real/{PERSON.file}: {PERSON.what} ({PERSON.licence})"
        file.attrs["noise"] = f"complex Gaussian, {NOISE} of the image's maximum in each part"
        file.attrs["mask"] = "brain 4x, as published, lines across axis 0"
