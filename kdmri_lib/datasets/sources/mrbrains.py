"""MRBrainS 2013 and 2018 (Mendrik et al. 2015; Kuijf et al.): axial brain volumes of several contrasts.

2013: ``N/T1.nii``, ``T1_IR.nii``, ``T2_FLAIR.nii``. 2018: ``N/pre/reg_T1.nii.gz``, ``reg_IR.nii.gz``, ``FLAIR.nii.gz``,
and the same in ``N/orig``. `Dataset.contrast` is t1, ir or flair; option `stage` is "pre" (bias-corrected; the default)
or "orig".
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kdmri_lib.datasets.cohort import Member, folder_of, split_subjects
from kdmri_lib.datasets.nifti import framed_slices, slices_in
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

OPTIONS = {"stage"}
FILES = {"t1": ("T1", "reg_T1"), "ir": ("T1_IR", "reg_IR", "IR"), "flair": ("T2_FLAIR", "FLAIR")}


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per subject: of the declared contrast, and of the declared stage where there are two."""
    folder, stage = folder_of(dataset), str(dataset.options.get("stage", "pre"))
    if dataset.contrast not in FILES or stage not in ("pre", "orig"):
        raise StudyError(
            f"data set '{dataset.name}': contrast '{dataset.contrast}', stage '{stage}'; known contrasts: "
            f"{', '.join(FILES)}; stages: pre, orig"
        )
    subjects: dict[str, list[tuple[str, dict]]] = {}
    for file in folder.rglob("*.nii*"):
        within = file.relative_to(folder).parts
        if file.name.split(".")[0] not in FILES[dataset.contrast] or len(within) < 2:
            continue
        if within[-2] in ("pre", "orig"):
            if within[-2] != stage:
                continue
            within = within[:-1]
        subject = "_".join(within[:-1])
        if subject in subjects:
            raise StudyError(f"{folder}: two {dataset.contrast} volumes of {subject}; {file} is one of them")
        subjects[subject] = [(f"{subject}_{dataset.contrast}", {"file": str(file)})]
    return split_subjects(dataset, subjects)


def count(dataset: Dataset, file: str) -> int:
    """How many slices `make` will give, from the header alone."""
    return dataset.slices_per_volume or slices_in(Path(file))


def make(dataset: Dataset, file: str) -> tuple[np.ndarray, dict]:
    """One brain, (slices, H, W) float32 in the file's units, axial, and its attributes."""
    image, spacing = framed_slices(Path(file), dataset.shape, dataset.slices_per_volume)
    return image, {"kind": "real MR", "origin": Path(file).name, "spacing": spacing, "files": [file]}
