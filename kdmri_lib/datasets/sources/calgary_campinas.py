"""Calgary-Campinas (Souza et al. 2018): T1 head volumes, reconstructed or as raw k-space.

As distributed: ``*.nii.gz`` at 1 mm; single-channel k-space ``*.npy`` (slices, 256, 256, 2), real and imaginary part;
and 12-channel ``*.h5`` with `kspace` (slices, 218, 170, 24), channels' real and imaginary parts in turn, the readout
already transformed. k-space is stored for an inverse FFT without shifts; the challenge's undersampled test files are
refused. A file is a subject; files below a folder named Val or Test only test. Skull-stripping masks (``_staple``, ``_ss``,
``_manual``) are no images. Option `orientation` of the NIfTI volumes: "sagittal" (256 x 256 there; the default),
"axial" or "coronal". In a complex data set the raw k-space's complex image, channels combined by ESPIRiT
(`kdmri_lib.coils`).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kdmri_lib.datasets import nifti
from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.folders import NIFTI, ends_in, files_of
from kdmri_lib.datasets.framing import middle
from kdmri_lib.datasets.kspace import slice_images
from kdmri_lib.datasets.reading import hdf5_array, open_hdf5, reading
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

ENDINGS = (*NIFTI, ".npy", ".h5")
OPTIONS = {"orientation": nifti.Orientation}
HELD_OUT = {"val", "test", "validation"}
MASKS = ("_staple", "_ss", "_manual")


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per file, a file per subject; those below Val or Test only test."""
    seen: set[str] = set()
    for entry in files_of(dataset, ENDINGS):
        if (name := entry.bare.name).endswith(MASKS):
            continue
        if name in seen:
            raise StudyError(f"two files of subject {name}; {entry.place} is one of them, give a pattern")
        seen.add(name)
        how = {"file": str(entry.file)}
        if ends_in(entry.file.name, NIFTI):
            how["orientation"] = str(dataset.options.get("orientation", "sagittal"))
        # Test-R=5 and Test-R=10 are the challenge's test sets.
        tests = HELD_OUT & {re.split(r"[-_ ]", place.lower())[0] for place in entry.place.parts[:-1]}
        yield Member("test" if tests else "", name, name, how)


@contextmanager
def _kspace(path: Path):
    """Yield the k-space of a raw file, unread: (slices, H, W, 2 x channels), real and imaginary parts in turn."""
    with open_hdf5(path, "raw k-space file") if path.suffix.lower() == ".h5" else reading(path, "NumPy array") as data:
        kspace = hdf5_array(data, path, "kspace") if data else np.load(path, mmap_mode="r", allow_pickle=False)
        if kspace.ndim != 4 or 0 in kspace.shape or kspace.shape[-1] % 2 or kspace.dtype.kind not in "iuf":
            raise StudyError(
                f"{path}: k-space of shape {kspace.shape}, {kspace.dtype}, expected (slices, H, W, 2 x channels), real"
            )
        yield kspace


def count(dataset: Dataset, file: str, **how) -> int:
    """How many slices `make` will give at most, from the header or the array's shape."""
    if how:
        return nifti.count(dataset, file, **how)
    with _kspace(Path(file)) as kspace:
        return len(middle(len(kspace), dataset.slices_per_volume))


def make(dataset: Dataset, file: str, **how) -> tuple[np.ndarray, dict]:
    """One head, (slices, H, W) float32 or complex64 in the file's units, and its attributes; raw k-space as root sum of
    squares, or as a complex image."""
    if how:
        return nifti.make(dataset, file, **how)
    with _kspace(path := Path(file)) as kspace:

        def read(number: int) -> np.ndarray:
            return np.array(kspace[number], np.float32, order="C").view(np.complex64).transpose(2, 0, 1)

        def centre(rows: slice, columns: slice) -> np.ndarray:
            return kspace[:, rows, columns]

        chosen = middle(len(kspace), dataset.slices_per_volume)
        return slice_images(dataset, read, chosen, "unshifted", lambda _: file, centre), {"origin": path.name}
