"""Volumes of one's own as DICOM: a folder of single-frame files, sorted into series, and split by subject.

A subject is the first folder below `Dataset.folder`, or the patient's ID where files lie in the folder itself; folders of
one patient's ID are one subject, but with option `subject` "folder" (of anonymised files that share one). A series is taken
as one volume: parallel slices at even distances in the order of their position along the normal, rescale slope and
intercept applied, in the plane they were acquired in. Refused, and named: series of several planes (localisers) or with
slices missing or doubled; mosaics and multi-frame files; phases, colours, other modalities than MR. What is no image
(DICOMDIR, reports, presentation states) and segmentations are passed over. `pattern` is a glob below the folder (all files
by default). Option `pixel` (mm).
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pydicom
from pydicom.misc import is_dicom
from pydicom.uid import UID

from kdmri_lib.datasets.cohort import Member
from kdmri_lib.datasets.folders import files_of
from kdmri_lib.datasets.framing import framed, pixel_factors, resampled
from kdmri_lib.datasets.nifti import Pixel
from kdmri_lib.datasets.reading import named, reading
from kdmri_lib.datasets.values import magnitudes
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

ENDINGS = ()  # files of a series often have none
OPTIONS = {"pixel": Pixel, "subject": Literal["patient", "folder"]}
COSINE = 1e-3  # by which orientations within a series may differ: scanners round them in the sixth decimal
EVEN = 0.1  # share by which distances between slices may differ
UNNAMED = "unnamed"
NOT_MAGNITUDE = {"P", "I", "R", "PHASE", "PHASE MAP", "IMAGINARY", "REAL"}  # in ImageType, third or fourth


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per series, by the files' headers; files that aren't DICOM images are passed over."""
    series: dict[tuple[str, str], list[str]] = {}
    persons: dict[tuple[str, str], str] = {}
    for entry in files_of(dataset, ENDINGS):
        file, places = entry.file, entry.place.parts
        try:
            with reading(file, "DICOM file"):
                header = pydicom.dcmread(file, stop_before_pixels=True)
                is_image = _is_image(header)
                patient, number = str(header.get("PatientID") or UNNAMED), str(header.get("SeriesInstanceUID") or "")
        except StudyError:
            if file.suffix.lower() in (".dcm", ".ima") or _begins_as_dicom(file):  # left out when its turn comes
                series.setdefault((places[0], f"unreadable_{entry.place}"), []).append(str(file))
            continue
        if is_image:
            subject = places[0] if len(places) > 1 else patient
            series.setdefault(key := (subject, number or str(entry.place.parent)), []).append(str(file))
            if patient != UNNAMED and dataset.options.get("subject") != "folder":
                persons.setdefault(key, patient)
    numbers: Counter[str] = Counter()
    for (subject, number), files in series.items():
        numbers[subject] += 1
        plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in subject)
        person = persons.get((subject, number), "")
        yield Member("", subject, f"{plain}_series{numbers[subject]}", {"files": files}, person)


def _is_image(header: pydicom.Dataset) -> bool:
    """Whether a file holds an image, or held one before it was cut; a segmentation is none."""
    kind = UID(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or "")
    return header.get("Modality") != "SEG" and ("Rows" in header or not kind or "Image Storage" in kind.name)


def _begins_as_dicom(file: Path) -> bool:
    with suppress(OSError):
        return is_dicom(file)
    return False


class Place(NamedTuple):
    """What a file's header says of its slice: position along the normal (mm), row's and column's direction (6 cosines),
    pixels (H, W) and their (row, column) spacing in mm."""

    position: float
    orientation: np.ndarray
    shape: tuple[int, int]
    spacing: tuple[float, float]


def _number(data: pydicom.Dataset, name: str, otherwise: float) -> float:
    """A header's number; `otherwise` where it isn't there, or is empty."""
    value = data.get(name)
    return otherwise if value in (None, "") else float(value)


def _read(file: str, headers: bool = True) -> tuple[pydicom.Dataset, Place]:
    """A slice's file, its `headers` alone or all of it, and its place; `StudyError` for no single slice of magnitudes."""
    with reading(Path(file), "DICOM file"), named(file):
        data = pydicom.dcmread(file, stop_before_pixels=headers)
        kinds = [str(kind).upper() for kind in data.get("ImageType") or ()]
        component = str(data.get("ComplexImageComponent") or "MAGNITUDE").upper()
        modality, grey = str(data.get("Modality") or "MR"), data.get("PhotometricInterpretation")
        if modality != "MR":
            raise StudyError(f"modality {modality}, expected MR")
        if _number(data, "NumberOfFrames", 1) > 1:
            raise StudyError("a multi-frame file; expected one slice per file (convert it to NIfTI)")
        if "MOSAIC" in kinds:
            raise StudyError("a mosaic, many slices in one image; expected one slice per file (convert it to NIfTI)")
        if NOT_MAGNITUDE & set(kinds[2:4]) or component not in ("MAGNITUDE", "MIXED"):
            raise StudyError(f"of image type {', '.join([*kinds, component])}; expected magnitudes")
        if _number(data, "SamplesPerPixel", 1) > 1 or grey == "MONOCHROME1":
            raise StudyError(f"pixels are {grey}, expected grey values, larger ones brighter (MONOCHROME2)")
        if not data.get("ImagePositionPatient") or not data.get("ImageOrientationPatient"):
            raise StudyError("no position or orientation; its place in the series isn't known")
        orientation = np.array(data.ImageOrientationPatient, dtype=float)
        normal = np.cross(*orientation.reshape(2, 3))
        if not abs(np.linalg.norm(normal) - 1) < 0.01:
            raise StudyError(f"orientation {orientation.tolist()}, expected two directions at a right angle")
        position = float(normal @ np.array(data.ImagePositionPatient, dtype=float))
        row, column = (float(v) for v in data.get("PixelSpacing") or (np.nan, np.nan))
        return data, Place(position, orientation, (int(data.Rows), int(data.Columns)), (row, column))


def _stack(places: dict[str, Place], pixel: float | None) -> tuple[list[str], tuple[float, float, float]]:
    """The files of a series in the order of their slices, and the spacing (slice, row, column) in mm, across slices 0 of a
    single one. `StudyError` when slices differ in size or spacing, aren't parallel, are doubled or missing, or their pixels
    aren't of a size to resample to `pixel` mm."""
    files = sorted(places, key=lambda file: places[file].position)
    start = places[first := files[0]]
    for file in files:
        place = places[file]
        if place.shape != start.shape or not np.allclose(place.spacing, start.spacing, rtol=1e-3, equal_nan=True):
            raise StudyError(
                f"{file}: {place.shape} pixels of {place.spacing} mm in a series that begins with {first}: "
                f"{start.shape} of {start.spacing} mm"
            )
        if np.abs(place.orientation - start.orientation).max() > COSINE:
            raise StudyError(
                f"{file}: its slice isn't parallel to that of {first} in the same series (a localiser?): orientations "
                f"{place.orientation.round(3).tolist()} and {start.orientation.round(3).tolist()}"
            )
    with named(first):
        pixel_factors(start.shape, (0.0, *start.spacing), pixel)
    distances = np.diff([places[file].position for file in files])
    usual = float(np.median(distances)) if len(distances) else 0.0
    for file, distance in zip(files[1:], distances, strict=True):
        if distance < 1e-3:
            raise StudyError(
                f"{file}: a second slice at the same position of its series; a 4-D series needs splitting first"
            )
        if abs(distance - usual) > EVEN * usual:
            raise StudyError(
                f"{file}: {distance:.4g} mm from the slice before it, where {usual:.4g} mm are usual in its series; "
                "expected even distances (are slices missing?)"
            )
    return files, (usual, *start.spacing)


def count(dataset: Dataset, files: list[str]) -> int:
    """How many slices `make` will give at most, from the headers."""
    _stack({file: _read(file)[1] for file in files}, dataset.options.get("pixel"))
    return min(len(files), dataset.slices_per_volume or len(files))


def make(dataset: Dataset, files: list[str]) -> tuple[np.ndarray, dict]:
    """One series, (slices, H, W) float32 in rescaled units, along the normal of its slices, and its attributes."""
    pixel, places, images = dataset.options.get("pixel"), {}, {}
    for file in files:
        data, places[file] = _read(file, headers=False)
        with reading(Path(file), "DICOM file"), np.errstate(over="ignore"):  # a scale that overflows is refused below
            slope, intercept = (_number(data, f"Rescale{what}", no) for what, no in (("Slope", 1), ("Intercept", 0)))
            images[file] = data.pixel_array.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    ordered, spacing = _stack(places, pixel)
    volume, attributes = magnitudes(np.stack([images[file] for file in ordered]), Path(files[0]))
    volume, spacing = resampled(volume, spacing, pixel)
    known = {"spacing": spacing} if np.isfinite(spacing).all() else {}
    origin = f"DICOM series of {len(files)} slices, {Path(files[0]).parent.name}"
    return framed(volume, dataset.shape, dataset.slices_per_volume), {"origin": origin} | known | attributes
