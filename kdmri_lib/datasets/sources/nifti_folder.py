"""Volumes of one's own: a folder of NIfTI files, split by subject.

A file's subject is the first folder of its path below `Dataset.folder`, or the file itself where there is none; so two
scans of a person, in one folder, stay on one side of the split. `pattern` is a glob below the folder. Files that end in
.nii or .nii.gz count, but for label maps (`kdmri_lib.datasets.folders`). Options: `orientation` ("axial" by default;
"coronal", "sagittal", "thickest") and `pixel` (mm to resample to).
"""

from collections.abc import Iterator

import numpy as np

from kdmri_lib.datasets.cohort import Member, folder_of, split_subjects
from kdmri_lib.datasets.folders import NIFTI, files_in
from kdmri_lib.datasets.nifti import Orientation, Pixel, count_of, image_of
from kdmri_lib.declarations import Dataset

ENDINGS = NIFTI
OPTIONS = {"orientation": Orientation, "pixel": Pixel}


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per file, by the first folder of its path."""
    subjects: dict[str, list[tuple[str, dict]]] = {}
    for entry in files_in(folder_of(dataset), ENDINGS, dataset.pattern):
        name = entry.bare.as_posix().replace("/", "_")
        subjects.setdefault(entry.place.parts[0], []).append((name, {"file": str(entry.file)}))
    return split_subjects(dataset, subjects)


def count(dataset: Dataset, file: str) -> int:
    """How many slices `make` will give at most, from the header alone."""
    return count_of(dataset, file, **dataset.options)


def make(dataset: Dataset, file: str) -> tuple[np.ndarray, dict]:
    """One volume, (slices, H, W) float32 in the file's units, and its attributes."""
    return image_of(dataset, file, **dataset.options)
