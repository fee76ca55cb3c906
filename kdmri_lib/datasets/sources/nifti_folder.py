"""Volumes of one's own: a folder of NIfTI files, split by subject.

A file's subject is the first folder of its path below `Dataset.folder`, or the file itself where there is none; so two
scans of a person, in one folder, stay on one side of the split. `pattern` is a glob below the folder. Options:
`orientation` ("axial" by default; "coronal", "sagittal", "thickest") and `pixel` (mm to resample to).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kdmri_lib.datasets.cohort import Member, folder_of, in_order, split_subjects
from kdmri_lib.datasets.nifti import framed_slices, slices_in
from kdmri_lib.declarations import Dataset

OPTIONS = {"orientation", "pixel"}


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per file, by the first folder of its path."""
    folder = folder_of(dataset)
    subjects: dict[str, list[tuple[str, dict]]] = {}
    for file in in_order(folder.glob(dataset.pattern or "**/*.nii*")):
        name = str(file.relative_to(folder)).removesuffix(".gz").removesuffix(".nii").replace("/", "_")
        subjects.setdefault(file.relative_to(folder).parts[0], []).append((name, {"file": str(file)}))
    return split_subjects(dataset, subjects)


def count(dataset: Dataset, file: str) -> int:
    """How many slices `make` will give, from the header alone."""
    return dataset.slices_per_volume or slices_in(Path(file), str(dataset.options.get("orientation", "axial")))


def make(dataset: Dataset, file: str) -> tuple[np.ndarray, dict]:
    """One volume, (slices, H, W) float32 in the file's units, and its attributes."""
    image, spacing = framed_slices(Path(file), dataset.shape, dataset.slices_per_volume, **dataset.options)
    return image, {"kind": "real MR", "origin": Path(file).name, "spacing": spacing, "files": [file]}
