"""MRBrainS 2013 and 2018 (Mendrik et al. 2015; Kuijf et al.): axial brain volumes of several contrasts.

2013: ``N/T1.nii``, ``T1_IR.nii``, ``T2_FLAIR.nii``. 2018: ``N/pre/reg_T1.nii.gz``, ``reg_IR.nii.gz``, ``FLAIR.nii.gz``,
and the same in ``N/orig``. Where T1 or IR lies beside its registered version, the registered one counts: it is on the grid
that the contrasts share. `Dataset.contrast` is t1, ir or flair; option `stage` is "pre" (bias-corrected; the default) or
"orig".
"""

from collections.abc import Iterator
from typing import Literal

from kdmri_lib.datasets import nifti
from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.folders import NIFTI, Entry, files_of
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT

ENDINGS = NIFTI
OPTIONS = {"stage": Literal["pre", "orig"]}
REGISTERED = {"t1": "reg_T1", "ir": "reg_IR"}
FILES = {"t1": ("T1", "reg_T1"), "ir": ("T1_IR", "reg_IR", "IR"), "flair": ("T2_FLAIR", "FLAIR")}
count, make = nifti.count, nifti.make


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per subject: of the declared contrast, and of the declared stage where there are two."""
    contrast, stage = dataset.contrast, str(dataset.options.get("stage", "pre"))
    if contrast not in FILES:
        raise StudyError(f"data set '{dataset.name}': contrast '{contrast}'; known contrasts: {', '.join(FILES)}")
    found: dict[str, list[Entry]] = {}
    for entry in files_of(dataset, ENDINGS):
        *within, _ = entry.place.parts
        if within and within[-1] == stage:
            within = within[:-1]
        if entry.bare.name in FILES[contrast] and within and within[-1] not in ("pre", "orig"):
            found.setdefault("_".join(within), []).append(entry)
    for subject, entries in found.items():
        registered = [entry for entry in entries if entry.bare.name == REGISTERED.get(contrast)]
        if len(chosen := registered or entries) > 1:
            names = " and ".join(str(PROJECT / dataset.folder / entry.place) for entry in chosen)
            raise StudyError(f"{len(chosen)} {contrast} volumes of {subject}, expected one: {names}")
        yield Member("", subject, f"{subject}_{contrast}", {"file": str(chosen[0].file)})
