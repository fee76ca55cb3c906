"""ACDC (Bernard et al. 2018): cardiac cine MRI, short-axis stacks at end-diastole and end-systole.

As distributed: ``patientNNN/patientNNN_frameMM.nii.gz`` with ``_gt`` segmentations, a 4-D cine ``patientNNN_4d.nii.gz`` and
``Info.cfg``, in one folder or in ``training`` and ``testing``. Patients in a folder named testing, or numbered above 100,
are the challenge's test set and only test. Slices are the stack's own, neither resampled nor chosen. Option `cine`: the 4-D
series of all phases in place of the two frames.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kdmri_lib.datasets.cohort import Member, folder_of, in_order, split_subjects
from kdmri_lib.datasets.framing import framed
from kdmri_lib.datasets.nifti import read_nifti, slices_in
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

OPTIONS = {"cine"}


def cohort(dataset: Dataset) -> Iterator[Member]:
    """Every frame of every patient, or every cine; those of the challenge's test set only test."""
    folder = folder_of(dataset)
    wanted = re.compile(
        r"(patient\d+)_4d\.nii(\.gz)?" if dataset.options.get("cine") else r"(patient\d+)_frame\d+\.nii(\.gz)?"
    )
    subjects: dict[str, list[tuple[str, dict]]] = {}
    testers, places = set(), {}
    for file in in_order(folder.rglob("patient*/patient*.nii*")):
        if not (named := wanted.fullmatch(file.name)):
            continue
        subject = named[1]
        if places.setdefault(subject, file.parent) != file.parent:
            raise StudyError(f"{folder}: {subject} is there twice, in {places[subject]} and {file.parent}")
        if int(subject.removeprefix("patient")) > 100 or "testing" in file.relative_to(folder).parts:
            testers.add(subject)
        subjects.setdefault(subject, []).append((file.name.split(".")[0], {"file": str(file)}))
    return split_subjects(dataset, subjects, reserved=testers)


def phase(file: Path) -> str:
    """ "ED" or "ES" by the numbers in Info.cfg, "" where it doesn't say."""
    information = file.parent / "Info.cfg"
    frame = re.search(r"frame(\d+)", file.name)
    if not frame or not information.exists():
        return ""
    stated = dict(re.findall(r"^(ED|ES)\s*:\s*(\d+)", information.read_text(errors="replace"), re.MULTILINE))
    return next((name for name, number in stated.items() if int(number) == int(frame[1])), "")


def count(dataset: Dataset, file: str) -> int:
    """How many slices `make` will give, from the header alone."""
    return dataset.slices_per_volume or slices_in(Path(file), "thickest")


def make(dataset: Dataset, file: str) -> tuple[np.ndarray, dict]:
    """One stack, (slices, H, W) float32 in the file's units, and its attributes, `phase` among them."""
    slices, spacing = read_nifti(Path(file), "thickest", times=bool(dataset.options.get("cine")))
    image = framed(slices, dataset.shape, dataset.slices_per_volume)
    attributes = {"kind": "real MR", "origin": Path(file).name, "spacing": spacing, "files": [file]}
    return image, attributes | {"phase": phase(Path(file))}
