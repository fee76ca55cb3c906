"""Reading NIfTI volumes as slices in a known orientation."""

import gzip
import math
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import nibabel
import numpy as np
from pydantic import Field

from kdmri_lib.datasets.folders import ends_in
from kdmri_lib.datasets.framing import framed, pixel_factors, resampled
from kdmri_lib.datasets.reading import named, reading
from kdmri_lib.datasets.values import magnitudes
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

Orientation = Literal["axial", "coronal", "sagittal", "thickest"]  # of a declaration's options
Pixel = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ORIENTATIONS = {"axial": 2, "coronal": 1, "sagittal": 0}  # the axis from right to left, back to front or feet to head
DEFLATE = 1032  # times that it makes a file smaller at most
MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}  # by the header's unit


class Header(NamedTuple):
    """What a header says, before any value is read: the image as it is stored; of it turned to right, front and head its
    shape (X, Y, Z, times), its axes (across slices, down rows, along columns), and their spacing in mm."""

    image: nibabel.spatialimages.SpatialImage
    shape: tuple[int, int, int, int]
    axes: tuple[int, int, int]
    spacing: tuple[float, float, float]


def _header(path: Path, orientation: str = "axial", pixel: float | None = None, times: bool = False) -> Header:
    """The header of a volume that can be taken as slices; raises as `read_nifti` does, as far as a header tells."""
    with reading(path, "NIfTI volume"), named(path):
        image = nibabel.load(path)
        unit = image.header.get_xyzt_units()[0]
        zooms = tuple(float(zoom) * MILLIMETRES[unit] for zoom in image.header.get_zooms()[:3])
        shape, kind = tuple(int(size) for size in image.shape), image.get_data_dtype()
        turns = nibabel.io_orientation(image.affine)[:, 0]
        most = path.stat().st_size * (DEFLATE if ends_in(path.name, (".gz",)) else 1)
        taken = shape
        while len(taken) > 3 and taken[-1] == 1:  # axes that other programs add
            taken = taken[:-1]
        if len(taken) != 3 and not (len(taken) == 4 and times):
            raise StudyError(f"{len(shape)}-D image of shape {shape}, expected one 3-D volume")
        if 0 in taken:
            raise StudyError(f"image of shape {shape}, which holds no slices")
        if (needed := math.prod(taken) * kind.itemsize) > most:  # before that much memory is asked for
            raise StudyError(
                f"cut short, or its header is damaged: {needed} bytes of values in a file that holds {most} at most"
            )
        if not np.isfinite(turns).all():
            raise StudyError("an axis leads nowhere by its header; its orientation isn't known")
        if kind.kind not in "iuf":
            raise StudyError(f"values of type {kind}, expected real numbers (complex or colour images are none)")
        stored = np.argsort(turns)  # the axes that run from left to right, back to front, feet to head
        taken, zooms = (*(taken[axis] for axis in stored), *taken[3:]), [zooms[axis] for axis in stored]
        if orientation == "thickest" and not (np.isfinite(zooms).all() and min(zooms) > 0):
            raise StudyError(f"voxels of {' x '.join(f'{z:g}' for z in zooms)} mm by its header; which is thickest?")
        across = int(np.argmax(zooms)) if orientation == "thickest" else ORIENTATIONS[orientation]
        axes = (across, *{2: (1, 0), 1: (2, 0), 0: (2, 1)}[across])
        spacing = tuple(zooms[axis] for axis in axes)
        pixel_factors((taken[axes[1]], taken[axes[2]]), spacing, pixel)
    return Header(image, (*taken, 1) if len(taken) == 3 else taken, axes, spacing)


def read_nifti(
    path: Path, orientation: str = "axial", pixel: float | None = None, times: bool = False
) -> tuple[np.ndarray, tuple[float, float, float], dict]:
    """Read a NIfTI volume as (slices, H, W) float32 without negatives, whatever its unit; its (slice, row, column) spacing
    in mm; and the attributes of `values.magnitudes`, which refuses what is no magnitude image.

    However it is stored, slices run from feet to head (axial), back to front (coronal) or left to right (sagittal); rows
    from front to back in axial slices, from head to feet in the others; columns from the subject's right to left, in
    sagittal slices from front to back. "thickest" slices across the axis with the largest voxels, for stacks that lie along
    no axis of the body, such as the heart's short axis. `pixel` : mm to resample to; `times` : a 4-D series is taken too,
    its volumes one after the other.

    `StudyError` when the file is missing, damaged, not 3-D, holds complex numbers or colours, or its voxels' size isn't one
    to resample, or to tell the thickest by.
    """
    header = _header(path, orientation, pixel, times)
    with reading(path, "NIfTI volume"), np.errstate(over="ignore"):  # a scale that overflows gives infinity: refused
        if ends_in(path.name, (".gz",)):
            with gzip.open(path) as stream:  # to its end, where its checksum is: nibabel stops before
                while stream.read(2**20):
                    pass
        image = nibabel.as_closest_canonical(header.image)
        values = np.asarray(image.dataobj, dtype=np.float32).reshape(header.shape)
    slices = values.transpose(3, *header.axes)[..., ::-1, ::-1]
    slices, attributes = magnitudes(slices.reshape(-1, *slices.shape[2:]), path)
    return *resampled(slices, header.spacing, pixel), attributes


def make(dataset: Dataset, file: str, about: dict | None = None, **how) -> tuple[np.ndarray, dict]:
    """What a source makes of a NIfTI file, read as `how` says: evenly spaced slices, padded or cropped, (slices, H, W)
    float32 in the file's units; and attributes, those `about` the volume among them."""
    slices, spacing, attributes = read_nifti(path := Path(file), **how)
    image = framed(slices, dataset.shape, dataset.slices_per_volume)
    return image, {"origin": path.name, "spacing": spacing} | attributes | (about or {})


def count(dataset: Dataset, file: str, about: dict | None = None, **how) -> int:
    """How many slices `make` gives at most, from the header alone; raises as it does, as far as a header tells."""
    header = _header(Path(file), **how)
    total = header.shape[header.axes[0]] * header.shape[3]
    return min(total, dataset.slices_per_volume or total)
