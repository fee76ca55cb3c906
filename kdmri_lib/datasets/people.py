"""Nine real people, packaged for testing alone: T1 images in `data/real`, whose PROVENANCE.md says where each is from.

Nothing is chosen by them. The generator of virtual subjects was set beside one, Colin27 (its spectrum, see `spectrum`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.nifti import read_nifti
from kdmri_lib.storage import PROJECT

SPLIT = "people"
PIXEL = 1.0  # mm, that of embedded_brain's grid
FOLDER = PROJECT / "data" / "real"


class Person(NamedTuple):
    """A person's file below `FOLDER`; the first and last of its axial slices to take, counted from the feet; what it is,
    its licence."""

    file: str
    slices: tuple[int, int]
    what: str
    licence: str


_TUMOUR = "whole head after contrast agent, a patient with a tumour, from pyradiomics 3.0.1"
_SLICE = "one skull-stripped axial slice, 8 bit from JPEG, from antspyx 0.6.3"
# From the eyes and the pons to the convexity below the vertex, 96 mm as in the template's slices: below it there is more
# face and neck than brain, above it more scalp. Colin27 lies in the template's space, -30 to 66 mm; the patients' slices,
# 6.5 mm apart, were chosen by eye.
PEOPLE = {
    "colin27": Person(
        "head_colin27.nii.gz",
        (41, 137),
        "whole head, average of one man's 27 scans, from mricron-data",
        "© Louis Collins, Montreal Neurological Institute, free with notice",
    ),
    "tumour1": Person("head_tumour1.nii.gz", (7, 22), _TUMOUR, "BSD-3-Clause"),
    "tumour2": Person("head_tumour2.nii.gz", (6, 21), _TUMOUR, "BSD-3-Clause"),
    **{f"r{n}": Person(f"axial_r{n}.nii.gz", (0, 0), _SLICE, "Apache-2.0") for n in (16, 27, 30, 62, 64, 85)},
}


def cohort() -> Iterator[Member]:
    """A volume per person, all in one test set, each made from its `file`."""
    for name, person in PEOPLE.items():
        yield Member(SPLIT, name, name, {"file": str(FOLDER / person.file)})


def make(file: str, count: int | None) -> tuple[np.ndarray, dict]:
    """At most `count` evenly spaced axial slices of a person's brain (all for None), (slices, H, W) float32 in the file's
    units, front at the top, pixels of `PIXEL` mm; and the attributes."""
    person = next(person for person in PEOPLE.values() if person.file == Path(file).name)
    slices, spacing, _ = read_nifti(Path(file), pixel=PIXEL)
    first, last = person.slices
    # Rounded, numbers come twice where the file has fewer slices than are asked for.
    chosen = np.unique(np.linspace(first, last, count or last - first + 1).round().astype(int))
    origin = f"{Path(file).name}: {person.what} ({person.licence})"
    return np.maximum(slices[chosen], 0), {"origin": origin, "spacing": spacing}  # splines overshoot below zero
