"""MRBrainS 2013 and 2018 (Mendrik et al. 2015; Kuijf et al.): axial brain volumes of several contrasts.

2013: ``N/T1.nii``, ``T1_IR.nii``, ``T2_FLAIR.nii``. 2018: ``N/pre/reg_T1.nii.gz``, ``reg_IR.nii.gz``, ``FLAIR.nii.gz``,
and the same in ``N/orig``. Where T1 or IR lies beside its registered version, the registered one counts: it is on the grid
that the contrasts share. `Dataset.contrast` is t1, ir or flair; option `stage` is "pre" (bias-corrected; the default) or
"orig".
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from kdmri_lib.datasets.cohort import Member, folder_of, split_subjects
from kdmri_lib.datasets.folders import NIFTI, Entry, files_in
from kdmri_lib.datasets.nifti import count_of, image_of
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

ENDINGS = NIFTI
OPTIONS = {"stage": Literal["pre", "orig"]}
REGISTERED = {"t1": "reg_T1", "ir": "reg_IR"}
FILES = {"t1": ("T1", "reg_T1"), "ir": ("T1_IR", "reg_IR", "IR"), "flair": ("T2_FLAIR", "FLAIR")}


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per subject: of the declared contrast, and of the declared stage where there are two."""
    folder, stage = folder_of(dataset), str(dataset.options.get("stage", "pre"))
    if dataset.contrast not in FILES:
        raise StudyError(
            f"data set '{dataset.name}': contrast '{dataset.contrast}'; known contrasts: {', '.join(FILES)}"
        )
    found: dict[str, list[Entry]] = {}
    for entry in files_in(folder, ENDINGS, dataset.pattern):
        *within, _ = entry.place.parts
        if entry.bare.name not in FILES[dataset.contrast] or not within:
            continue
        if within[-1] in ("pre", "orig"):
            if within[-1] != stage:
                continue
            within = within[:-1]
        found.setdefault("_".join(within), []).append(entry)
    subjects: dict[str, list[tuple[str, dict]]] = {}
    for subject, entries in found.items():
        registered = [entry for entry in entries if entry.bare.name == REGISTERED.get(dataset.contrast)]
        if len(chosen := registered or entries) > 1:
            names = " and ".join(str(folder / entry.place) for entry in chosen)
            raise StudyError(f"{folder}: {len(chosen)} {dataset.contrast} volumes of {subject}, expected one: {names}")
        subjects[subject] = [(f"{subject}_{dataset.contrast}", {"file": str(chosen[0].file)})]
    return split_subjects(dataset, subjects)


def count(dataset: Dataset, file: str) -> int:
    """How many slices `make` will give at most, from the header alone."""
    return count_of(dataset, file)


def make(dataset: Dataset, file: str) -> tuple[np.ndarray, dict]:
    """One brain, (slices, H, W) float32 in the file's units, axial, and its attributes."""
    return image_of(dataset, file)
