"""Volumes of one's own as DICOM: a folder of single-frame files, sorted into series, and split by subject.

A subject is the first folder below `Dataset.folder`, or the patient's ID where files lie in the folder itself. A series is
taken as one volume: slices in the order of their position along the normal, rescale slope and intercept applied, in the
plane they were acquired in. `pattern` is a glob below the folder (all files by default). Option `pixel` (mm).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom

from kdmri_lib.datasets.cohort import Member, folder_of, in_order, split_subjects
from kdmri_lib.datasets.framing import framed, resampled
from kdmri_lib.datasets.reading import reading
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

OPTIONS = {"pixel"}


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per series, by the files' headers; files that aren't DICOM are passed over."""
    folder = folder_of(dataset)
    series: dict[tuple[str, str], list[str]] = {}
    for file in in_order(f for f in folder.glob(dataset.pattern or "**/*") if f.is_file()):
        places = file.relative_to(folder).parts
        try:
            with reading(file, "DICOM file"):
                header = pydicom.dcmread(file, stop_before_pixels=True)
        except StudyError:
            if file.suffix.lower() in (".dcm", ".ima"):  # left out with its message when its turn comes
                series.setdefault((places[0], f"unreadable_{file.stem}"), []).append(str(file))
            continue
        if "SeriesInstanceUID" not in header or file.name == "DICOMDIR":
            continue
        subject = places[0] if len(places) > 1 else str(header.get("PatientID", "")) or "unnamed"
        series.setdefault((subject, str(header.SeriesInstanceUID)), []).append(str(file))
    subjects: dict[str, list[tuple[str, dict]]] = {}
    for (subject, _), files in series.items():
        number = len(subjects.setdefault(subject, []))
        plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in subject)
        subjects[subject].append((f"{plain}_series{number + 1}", {"files": files}))
    return split_subjects(dataset, subjects)


def count(dataset: Dataset, files: list[str]) -> int:
    """How many slices `make` will give, from the number of files."""
    return min(len(files), dataset.slices_per_volume or len(files))


def _slice(path: Path) -> tuple[float, np.ndarray, tuple[float, float]]:
    """Position along the normal (mm), the rescaled image, and its (row, column) spacing."""
    with reading(path, "DICOM file"):
        data = pydicom.dcmread(path)
        if int(data.get("NumberOfFrames", 1)) > 1:
            raise StudyError(f"{path}: a multi-frame file; expected one slice per file (convert it to NIfTI)")
        if "ImagePositionPatient" not in data or "ImageOrientationPatient" not in data:
            raise StudyError(f"{path}: no position or orientation; its place in the series isn't known")
        along, down = np.array(data.ImageOrientationPatient, dtype=float).reshape(2, 3)
        position = float(np.cross(along, down) @ np.array(data.ImagePositionPatient, dtype=float))
        image = data.pixel_array.astype(np.float32)
        image = image * np.float32(data.get("RescaleSlope", 1)) + np.float32(data.get("RescaleIntercept", 0))
        row, column = (float(v) for v in data.get("PixelSpacing", (1, 1)))
    return position, image, (row, column)


def make(dataset: Dataset, files: list[str]) -> tuple[np.ndarray, dict]:
    """One series, (slices, H, W) float32 in rescaled units, along the normal of its slices, and its attributes."""
    slices = sorted(((*_slice(Path(f)), f) for f in files), key=lambda s: s[0])
    first = slices[0]
    for _, image, spacing, file in slices:
        if image.shape != first[1].shape or spacing != first[2]:
            raise StudyError(
                f"{file}: {image.shape} pixels of {spacing} mm in a series that begins with {first[3]}: "
                f"{first[1].shape} of {first[2]} mm"
            )
    positions = np.array([s[0] for s in slices])
    if len(slices) > 1 and np.diff(positions).min() < 1e-3:
        twice = slices[int(np.diff(positions).argmin()) + 1][3]
        raise StudyError(
            f"{twice}: a second slice at the same position of its series; a 4-D series needs splitting first"
        )
    thickness = float(np.median(np.diff(positions))) if len(slices) > 1 else 0.0
    volume = np.stack([s[1] for s in slices])
    if not np.isfinite(volume).all():
        raise StudyError(f"{files[0]}: NaN or infinite values in its series (a scale may have overflowed)")
    volume, spacing = resampled(volume, (thickness, *first[2]), dataset.options.get("pixel") or None)
    image = framed(volume, dataset.shape, dataset.slices_per_volume)
    origin = f"DICOM series of {len(files)} slices, {Path(files[0]).parent.name}"
    return image, {"kind": "real MR", "origin": origin, "spacing": spacing, "files": files}
