"""Volumes of one's own as DICOM: a folder of single-frame files, sorted into series, and split by subject.

A subject is the first folder below `Dataset.folder`, or the patient's ID where files lie in the folder itself. A series is
taken as one volume: parallel slices at even distances in the order of their position along the normal, rescale slope and
intercept applied, in the plane they were acquired in. Refused, and named: series of several planes (localisers) or with
slices missing or doubled; mosaics and multi-frame files; phases, colours, other modalities than MR. What is no image
(DICOMDIR, reports, presentation states) and segmentations are passed over. `pattern` is a glob below the folder (all files
by default). Option `pixel` (mm).
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.misc import is_dicom
from pydicom.uid import UID

from kdmri_lib.datasets.cohort import Member, folder_of, split_subjects
from kdmri_lib.datasets.folders import files_in
from kdmri_lib.datasets.framing import framed, pixel_factors, resampled
from kdmri_lib.datasets.nifti import Pixel
from kdmri_lib.datasets.reading import reading
from kdmri_lib.datasets.values import magnitudes
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

ENDINGS = ()  # files of a series often have none
OPTIONS = {"pixel": Pixel}
COSINE = 1e-3  # by which orientations within a series may differ: scanners round them in the sixth decimal
EVEN = 0.1  # share by which distances between slices may differ
NOT_MAGNITUDE = {"P", "I", "R", "PHASE", "PHASE MAP", "IMAGINARY", "REAL"}  # in ImageType, third or fourth


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per series, by the files' headers; files that aren't DICOM images are passed over."""
    series: dict[tuple[str, str], list[str]] = {}
    for entry in files_in(folder_of(dataset), ENDINGS, dataset.pattern):
        file, places = entry.file, entry.place.parts
        try:
            with reading(file, "DICOM file"):
                header = pydicom.dcmread(file, stop_before_pixels=True)
                is_image = _is_image(header)
                patient, number = str(header.get("PatientID") or "unnamed"), str(header.get("SeriesInstanceUID") or "")
        except StudyError:
            if file.suffix.lower() in (".dcm", ".ima") or _begins_as_dicom(file):  # left out when its turn comes
                series.setdefault((places[0], f"unreadable_{entry.place}"), []).append(str(file))
            continue
        if is_image:
            subject = places[0] if len(places) > 1 else patient
            series.setdefault((subject, number or str(entry.place.parent)), []).append(str(file))
    subjects: dict[str, list[tuple[str, dict]]] = {}
    for (subject, _), files in series.items():
        number = len(subjects.setdefault(subject, []))
        plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in subject)
        subjects[subject].append((f"{plain}_series{number + 1}", {"files": files}))
    return split_subjects(dataset, subjects)


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


def _place(data: pydicom.Dataset, path: Path) -> Place:
    """The place of a slice by its header; `StudyError` for what is no single slice of magnitudes."""
    kinds = [str(kind).upper() for kind in data.get("ImageType") or ()]
    component = str(data.get("ComplexImageComponent") or "MAGNITUDE").upper()
    modality = str(data.get("Modality") or "MR")
    if modality != "MR":
        raise StudyError(f"{path}: modality {modality}, expected MR")
    if _number(data, "NumberOfFrames", 1) > 1:
        raise StudyError(f"{path}: a multi-frame file; expected one slice per file (convert it to NIfTI)")
    if "MOSAIC" in kinds:
        raise StudyError(
            f"{path}: a mosaic, many slices in one image; expected one slice per file (convert it to NIfTI)"
        )
    if NOT_MAGNITUDE & set(kinds[2:4]) or component not in ("MAGNITUDE", "MIXED"):
        raise StudyError(f"{path}: of image type {', '.join([*kinds, component])}; expected magnitudes")
    colours, inverted = _number(data, "SamplesPerPixel", 1) > 1, data.get("PhotometricInterpretation") == "MONOCHROME1"
    if colours or inverted:
        found = data.get("PhotometricInterpretation")
        raise StudyError(f"{path}: pixels are {found}, expected grey values, larger ones brighter (MONOCHROME2)")
    if not data.get("ImagePositionPatient") or not data.get("ImageOrientationPatient"):
        raise StudyError(f"{path}: no position or orientation; its place in the series isn't known")
    orientation = np.array(data.ImageOrientationPatient, dtype=float)
    along, down = orientation.reshape(2, 3)
    normal = np.cross(along, down)
    if not abs(np.linalg.norm(normal) - 1) < 0.01:
        raise StudyError(f"{path}: orientation {orientation.tolist()}, expected two directions at a right angle")
    position = float(normal @ np.array(data.ImagePositionPatient, dtype=float))
    row, column = (float(v) for v in data.get("PixelSpacing") or (np.nan, np.nan))
    return Place(position, orientation, (int(data.Rows), int(data.Columns)), (row, column))


def _stack(places: dict[str, Place]) -> tuple[list[str], float]:
    """The files of a series in the order of their slices, and the distance between these in mm, 0 of a single one.

    Raises
    ------
    StudyError
        When slices differ in size or spacing, aren't parallel, are doubled or missing; it names the slice.
    """
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
    if len(files) == 1:
        return files, 0.0
    distances = np.diff([places[file].position for file in files])
    if distances.min() < 1e-3:
        twice = files[int(distances.argmin()) + 1]
        raise StudyError(
            f"{twice}: a second slice at the same position of its series; a 4-D series needs splitting first"
        )
    usual = float(np.median(distances))
    odd = int(np.abs(distances - usual).argmax())
    if abs(distances[odd] - usual) > EVEN * usual:
        raise StudyError(
            f"{files[odd + 1]}: {distances[odd]:.4g} mm from the slice before it, where {usual:.4g} mm are usual in its "
            "series; expected even distances (are slices missing?)"
        )
    return files, usual


def _checked_pixel(dataset: Dataset, place: Place, file: str) -> None:
    if (pixel := dataset.options.get("pixel")) is not None:
        try:
            pixel_factors(place.shape, (0.0, *place.spacing), pixel)
        except StudyError as error:
            raise StudyError(f"{file}: {error}") from None


def count(dataset: Dataset, files: list[str]) -> int:
    """How many slices `make` will give at most, from the headers."""
    places = {}
    for path in map(Path, files):
        with reading(path, "DICOM file"):
            places[str(path)] = _place(pydicom.dcmread(path, stop_before_pixels=True), path)
    _stack(places)
    _checked_pixel(dataset, places[files[0]], files[0])
    return min(len(files), dataset.slices_per_volume or len(files))


def make(dataset: Dataset, files: list[str]) -> tuple[np.ndarray, dict]:
    """One series, (slices, H, W) float32 in rescaled units, along the normal of its slices, and its attributes."""
    places, images = {}, {}
    for path in map(Path, files):
        with reading(path, "DICOM file"), np.errstate(over="ignore"):  # a scale that overflows is refused below
            data = pydicom.dcmread(path)
            places[str(path)] = _place(data, path)
            slope, intercept = (_number(data, f"Rescale{what}", no) for what, no in (("Slope", 1), ("Intercept", 0)))
            images[str(path)] = data.pixel_array.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    ordered, thickness = _stack(places)
    _checked_pixel(dataset, places[files[0]], files[0])
    volume, attributes = magnitudes(np.stack([images[file] for file in ordered]), Path(files[0]))
    spacing = (thickness, *places[files[0]].spacing)
    volume, spacing = resampled(volume, spacing, dataset.options.get("pixel"))
    image = framed(volume, dataset.shape, dataset.slices_per_volume)
    origin = f"DICOM series of {len(files)} slices, {Path(files[0]).parent.name}"
    known = {"spacing": spacing} if np.isfinite(spacing).all() else {}
    return image, {"kind": "real MR", "origin": origin, "files": files} | known | attributes
