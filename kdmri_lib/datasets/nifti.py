"""Reading NIfTI volumes as slices in a known orientation."""

from pathlib import Path

import nibabel
import numpy as np

from kdmri_lib.datasets.framing import framed, resampled
from kdmri_lib.datasets.reading import reading
from kdmri_lib.errors import StudyError

ORIENTATIONS = {"axial": 2, "coronal": 1, "sagittal": 0}  # the axis from right to left, back to front or feet to head


def read_nifti(path: Path, orientation: str = "axial", pixel: float | None = None, times: bool = False):
    """Read a NIfTI volume as (slices, H, W) float32, and its (slice, row, column) spacing in mm.

    Slices run from feet to head (axial), back to front (coronal) or left to right (sagittal). Rows run from front to back
    in axial slices and from head to feet in the others; columns from the subject's right to left, in sagittal slices from
    front to back. All that whatever orientation the file is stored in, by its header. "thickest" slices across the axis
    with the largest voxels, for stacks that lie along no axis of the body, such as the heart's short axis.

    With `pixel` (mm), a volume whose pixels in the plane are another size by more than 1% is resampled (cubic splines).
    With `times`, a 4-D series is taken too, its volumes one after the other.

    Raises
    ------
    StudyError
        When the file is missing, damaged, not 3-D, holds NaN or infinite values, or is constant.
    """
    if orientation not in (*ORIENTATIONS, "thickest"):
        raise StudyError(f"unknown orientation '{orientation}'; known: {', '.join(ORIENTATIONS)}, thickest")
    with reading(path, "NIfTI volume"):
        volume = nibabel.as_closest_canonical(nibabel.load(path))
        with np.errstate(over="ignore"):  # a scale that overflows gives infinity, which is refused below
            image = np.asarray(volume.dataobj, dtype=np.float32)
        zooms = np.array(volume.header.get_zooms()[:3], dtype=float)
    if image.ndim == 4 and (image.shape[3] == 1 or times):
        image = image.transpose(3, 0, 1, 2)
    elif image.ndim == 3:
        image = image[None]
    else:
        raise StudyError(f"{path}: {image.ndim}-D image of shape {image.shape}, expected one 3-D volume")
    if not np.isfinite(image).all() or image.min() == image.max():
        raise StudyError(
            f"{path}: the same value everywhere, or holds NaN or infinite values (has a scale overflowed?)"
        )
    across = int(zooms.argmax()) if orientation == "thickest" else ORIENTATIONS[orientation]
    rows, columns = {2: (1, 0), 1: (2, 0), 0: (2, 1)}[across]
    slices = image.transpose(0, across + 1, rows + 1, columns + 1)[..., ::-1, ::-1]
    slices = slices.reshape(-1, *slices.shape[2:])
    return resampled(slices, tuple(float(zooms[axis]) for axis in (across, rows, columns)), pixel)


def framed_slices(
    path: Path, shape: tuple[int, int], count: int | None, pixel: float | None = None, orientation: str = "axial"
):
    """`count` evenly spaced slices of a NIfTI volume (all for None), padded or cropped: (count, *shape) float32, negatives
    as 0; and the (slice, row, column) spacing in mm. The rest as in `read_nifti`."""
    slices, spacing = read_nifti(path, orientation, pixel)
    return framed(slices, shape, count), spacing


def slices_in(path: Path, orientation: str = "axial") -> int:
    """How many slices a NIfTI file holds across that orientation, times counted, from its header alone."""
    with reading(path, "NIfTI volume"):
        header = nibabel.as_closest_canonical(nibabel.load(path)).header
        across = int(np.argmax(header.get_zooms()[:3])) if orientation == "thickest" else ORIENTATIONS[orientation]
        shape = header.get_data_shape()
    return int(shape[across] * (shape[3] if len(shape) == 4 else 1))
