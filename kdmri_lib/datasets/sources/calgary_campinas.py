"""Calgary-Campinas (Souza et al. 2018): T1 head volumes, reconstructed or as raw k-space.

As distributed: ``*.nii.gz`` at 1 mm; single-channel k-space ``*.npy`` (slices, 256, 256, 2), real and imaginary part;
and 12-channel ``*.h5`` with `kspace` (slices, 218, 170, 24), channels' real and imaginary parts in turn, the readout
already transformed. k-space is stored for an inverse FFT without shifts. A file is a subject; files below a folder
named Val or Test only test. Option `orientation` of the NIfTI volumes: "sagittal" (256 x 256 there; the default),
"axial" or "coronal".
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from kdmri_lib.datasets.cohort import Member, folder_of, in_order, split_subjects
from kdmri_lib.datasets.framing import middle, padded
from kdmri_lib.datasets.nifti import framed_slices, slices_in
from kdmri_lib.datasets.reading import hdf5_array, open_hdf5, reading
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.fourier import root_sum_of_squares, to_image

OPTIONS = {"orientation"}
HELD_OUT = {"val", "test", "validation"}


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per file, a file per subject; those below Val or Test only test."""
    folder = folder_of(dataset)
    subjects: dict[str, list[tuple[str, dict]]] = {}
    testers = set()
    files = [f for f in folder.glob(dataset.pattern or "**/*") if f.name.endswith((".nii", ".nii.gz", ".npy", ".h5"))]
    for file in in_order(files):
        name = file.name.removesuffix(".gz").rsplit(".", 1)[0]
        if name in subjects:
            raise StudyError(f"{folder}: two files of subject {name}; {file} is one of them, give a pattern")
        subjects[name] = [(name, {"file": str(file)})]
        if HELD_OUT & {place.lower() for place in file.relative_to(folder).parts[:-1]}:
            testers.add(name)
    return split_subjects(dataset, subjects, reserved=testers)


def _orientation(dataset: Dataset) -> str:
    return str(dataset.options.get("orientation", "sagittal"))


def count(dataset: Dataset, file: str) -> int:
    """How many slices `make` will give, from the header or the array's shape."""
    path = Path(file)
    if path.suffix == ".h5":
        with open_hdf5(path, "raw k-space file") as data:
            total = len(hdf5_array(data, path, "kspace"))
    elif path.suffix == ".npy":
        with reading(path, "NumPy array"):
            total = len(np.load(path, mmap_mode="r", allow_pickle=False))
    else:
        total = slices_in(path, _orientation(dataset))
    return min(total, dataset.slices_per_volume or total)


def _from_kspace(kspace, path: Path, dataset: Dataset) -> np.ndarray:
    """(slices, H, W, 2 x channels), real and imaginary parts in turn, to framed magnitude slices, one at a time."""
    if kspace.ndim != 4 or kspace.shape[-1] % 2:
        raise StudyError(f"{path}: k-space of shape {kspace.shape}, expected (slices, H, W, 2 x channels)")
    chosen = middle(len(kspace), dataset.slices_per_volume)
    images = np.empty((len(chosen), *dataset.shape), np.float32)
    for place, number in enumerate(chosen):
        values = np.asarray(kspace[number], dtype=np.float32)
        coils = torch.from_numpy(values[..., ::2] + 1j * values[..., 1::2]).permute(2, 0, 1)
        images[place] = padded(root_sum_of_squares(to_image(coils)).numpy(), dataset.shape)
    return images


def make(dataset: Dataset, file: str) -> tuple[np.ndarray, dict]:
    """One head, (slices, H, W) float32 in the file's units, and its attributes; raw k-space as root sum of squares."""
    path = Path(file)
    attributes = {"kind": "real MR", "origin": path.name, "files": [file]}
    if path.suffix == ".h5":
        with open_hdf5(path, "raw k-space file") as data:
            return _from_kspace(hdf5_array(data, path, "kspace"), path, dataset), attributes
    if path.suffix == ".npy":
        with reading(path, "NumPy array"):
            return _from_kspace(np.load(path, mmap_mode="r", allow_pickle=False), path, dataset), attributes
    image, spacing = framed_slices(path, dataset.shape, dataset.slices_per_volume, orientation=_orientation(dataset))
    return image, attributes | {"spacing": spacing}
