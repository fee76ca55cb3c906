"""Volumes of one's own: a folder of NIfTI files, split by subject.

A file's subject is the first folder of its path below `Dataset.folder`, or the file itself where there is none; so two
scans of a person, in one folder, stay on one side of the split. `pattern` is a glob below the folder. Files that end in
.nii or .nii.gz count, but for label maps (`kdmri_lib.datasets.folders`). Options: `orientation` ("axial" by default;
"coronal", "sagittal", "thickest") and `pixel` (mm to resample to).
"""

from collections.abc import Iterator

from kdmri_lib.datasets import nifti
from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.folders import NIFTI, files_of
from kdmri_lib.declarations import Dataset

ENDINGS = NIFTI
OPTIONS = {"orientation": nifti.Orientation, "pixel": nifti.Pixel}
count, make = nifti.count, nifti.make


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per file, by the first folder of its path."""
    for entry in files_of(dataset, ENDINGS):
        name = entry.bare.as_posix().replace("/", "_")
        yield Member("", entry.place.parts[0], name, {"file": str(entry.file), **dataset.options})
