"""Volumes of one's own: a folder of NIfTI files, split by subject.

A file's subject is the first folder of its path below `Dataset.folder`, or the file itself where there is none; so the
two frames of an ACDC patient stay on one side of the split.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kdmri_lib.datasets.nifti import framed_slices
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError


def cohort(dataset: Dataset) -> Iterator[tuple[str, str, dict]]:
    """The first `train` subjects in the order of their names train, the next ones validate, the next ones test."""
    if not dataset.folder or not dataset.pattern:
        raise StudyError(f"data set '{dataset.name}': source nifti_folder needs folder and pattern")
    folder = Path(dataset.folder)
    if not folder.is_dir():
        raise StudyError(f"data set '{dataset.name}': no folder {folder}; data/README.md says how to get the images")
    subjects: dict[str, list[Path]] = {}
    for file in sorted(folder.glob(dataset.pattern)):
        subjects.setdefault(file.relative_to(folder).parts[0], []).append(file)
    parts = ["train"] * dataset.train + ["validation"] * dataset.validation + ["test"] * dataset.test
    if len(subjects) < len(parts):
        raise StudyError(
            f"{folder}: {len(subjects)} subjects match '{dataset.pattern}', expected at least {len(parts)} "
            f"({dataset.train} train, {dataset.validation} validation, {dataset.test} test)"
        )
    for part, files in zip(parts, subjects.values(), strict=False):
        for file in files:
            name = str(file.relative_to(folder)).removesuffix(".gz").removesuffix(".nii").replace("/", "_")
            yield part, name, {"file": str(file)}


def make(dataset: Dataset, file: str) -> tuple[np.ndarray, dict]:
    image = framed_slices(Path(file), dataset.shape, dataset.slices_per_volume)
    return image, {"kind": "real MR", "origin": Path(file).name}
