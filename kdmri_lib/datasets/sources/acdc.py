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

from kdmri_lib.datasets import nifti
from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.folders import NIFTI, files_of
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT

ENDINGS = NIFTI
OPTIONS = {"cine": bool}
count, make = nifti.count, nifti.make


def cohort(dataset: Dataset) -> Iterator[Member]:
    """Every frame of every patient, or every cine; those of the challenge's test set only test."""
    cine = bool(dataset.options.get("cine"))
    wanted = re.compile(r"(patient(\d+))_4d" if cine else r"(patient(\d+))_frame(\d+)")
    places: dict[str, Path] = {}
    for entry in files_of(dataset, ENDINGS):
        if not (named := wanted.fullmatch(entry.bare.name)):
            continue
        subject, place = named[1], PROJECT / dataset.folder / entry.place.parent
        if places.setdefault(subject, place) != place:
            raise StudyError(f"{subject} is there twice, in {places[subject]} and {place}")
        tests = int(named[2]) > 100 or "testing" in (part.lower() for part in entry.place.parts)
        about = {"phase": "" if cine else phase(place, int(named[3]))}
        how = {"file": str(entry.file), "about": about, "orientation": "thickest", "times": cine}
        yield Member("test" if tests else "", subject, entry.bare.name, how)


def phase(place: Path, frame: int) -> str:
    """ "ED" or "ES", by the numbers in a patient's Info.cfg; "" where it isn't there or doesn't say."""
    try:
        information = (place / "Info.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    stated = dict(re.findall(r"^(ED|ES)\s*:\s*(\d+)", information, re.MULTILINE))
    return next((name for name, number in stated.items() if int(number) == frame), "")
