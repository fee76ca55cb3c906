"""ACDC (Bernard et al. 2018): cardiac cine MRI, short-axis stacks at end-diastole and end-systole.

As distributed: ``patientNNN/patientNNN_frameMM.nii.gz`` with ``_gt`` segmentations, a 4-D cine ``patientNNN_4d.nii.gz``
and ``Info.cfg``, in one folder or in ``training`` and ``testing``; as passed around, each ``patientNNN_frameMM.nii`` is a
folder with the file in it. Patients in a folder named testing, or numbered above 100, are the challenge's test set and
only test. Slices are the stack's own, neither resampled nor chosen. Option `cine`: the 4-D series of all phases in place
of the two frames.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kdmri_lib.datasets.cohort import Member, folder_of, split_subjects
from kdmri_lib.datasets.folders import NIFTI, files_in
from kdmri_lib.datasets.nifti import count_of, image_of
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

ENDINGS = NIFTI
OPTIONS = {"cine": bool}


def cohort(dataset: Dataset) -> Iterator[Member]:
    """Every frame of every patient, or every cine; those of the challenge's test set only test."""
    folder = folder_of(dataset)
    wanted = re.compile(r"(patient\d+)_4d" if dataset.options.get("cine") else r"(patient\d+)_frame(\d+)")
    subjects: dict[str, list[tuple[str, dict]]] = {}
    testers, places = set(), {}
    for entry in files_in(folder, ENDINGS, dataset.pattern):
        if not (named := wanted.fullmatch(entry.bare.name)):
            continue
        subject, place = named[1], folder / entry.place.parent
        if places.setdefault(subject, place) != place:
            raise StudyError(f"{folder}: {subject} is there twice, in {places[subject]} and {place}")
        if int(subject.removeprefix("patient")) > 100 or "testing" in (part.lower() for part in entry.place.parts):
            testers.add(subject)
        how = {"file": str(entry.file), "phase": "" if dataset.options.get("cine") else phase(place, int(named[2]))}
        subjects.setdefault(subject, []).append((entry.bare.name, how))
    return split_subjects(dataset, subjects, reserved=testers)


def phase(place: Path, frame: int) -> str:
    """ "ED" or "ES", by the numbers in a patient's Info.cfg; "" where it isn't there or doesn't say."""
    try:
        information = (place / "Info.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    stated = dict(re.findall(r"^(ED|ES)\s*:\s*(\d+)", information, re.MULTILINE))
    return next((name for name, number in stated.items() if int(number) == frame), "")


def _how(dataset: Dataset) -> dict:
    return {"orientation": "thickest", "times": bool(dataset.options.get("cine"))}


def count(dataset: Dataset, file: str, phase: str = "") -> int:
    """How many slices `make` will give at most, from the header alone."""
    return count_of(dataset, file, **_how(dataset))


def make(dataset: Dataset, file: str, phase: str = "") -> tuple[np.ndarray, dict]:
    """One stack, (slices, H, W) float32 in the file's units, and its attributes, `phase` among them."""
    image, attributes = image_of(dataset, file, **_how(dataset))
    return image, attributes | {"phase": phase}
