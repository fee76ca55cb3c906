"""HDF5 with an array `kspace`, fastMRI's files among them (Zbontar et al. 2018): (slices, [coils,] H, W).

A `mask` says which lines are measured, an ISMRMRD header (`ismrmrd_header`) how it was encoded. There the first of the two
axes in the plane is the readout; without a header, a mask of lines is one of the lines that the model wants.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from kdmri_lib.datasets.reading import hdf5_array, open_hdf5
from kdmri_lib.deployment.readers.base import Kspace, by_axes, the_axes
from kdmri_lib.deployment.readers.encoding import encoding_of
from kdmri_lib.errors import StudyError


@contextmanager
def opened(path: Path, axes: str = "", name: str = "kspace", lines_axis: int = 1, third: str = "S") -> Iterator[Kspace]:
    """The array `name` of an HDF5 file."""
    with open_hdf5(path, "HDF5 file") as file:
        array = hdf5_array(file, path, name)
        letters = the_axes(axes, array, (f"{third}HW", "SCHW"))
        shape, read = by_axes(array, letters, path, name)
        turned = letters.index("W") < letters.index("H")
        encoding = encoding_of(file["ismrmrd_header"][()], path) if "ismrmrd_header" in file else None
        across = (not turned) if encoding else lines_axis
        mask = _mask(file, path, shape[2:], turned, int(across))
        yield Kspace(path, name, shape, read, dict(file.attrs), mask, encoding, int(turned))


def _mask(file: h5py.File, path: Path, plane: tuple[int, int], turned: bool, across: int) -> np.ndarray | None:
    """What a file's mask says is measured, boolean (H, W); one for all slices and coils.

    `turned` : whether the file has columns before rows; `across` : the axis of (H, W) that a mask of lines lies along.
    """
    if not isinstance(file.get("mask"), h5py.Dataset):
        return None
    mask, grid = np.asarray(file["mask"][()]), plane[::-1] if turned else plane
    if mask.dtype.kind not in "buif":
        raise StudyError(f"{path}: 'mask' of {mask.dtype}, expected 0 and 1, or false and true")
    if not np.isin(mask, (0, 1)).all():
        raise StudyError(f"{path}: 'mask' with values other than 0 and 1")
    mask = mask.astype(bool)
    while mask.ndim > 1 and (mask.ndim > 2 or mask.shape != grid):
        if not (mask == mask[:1]).all():
            raise StudyError(
                f"{path}: 'mask' of shape {mask.shape} differs between slices or coils; expected one for all"
            )
        mask = mask[0]
    if mask.shape == grid:
        return mask.T if turned else mask
    if mask.shape != (plane[across],):
        raise StudyError(
            f"{path}: 'mask' of shape {mask.shape}, expected {plane[across]} lines or {grid[0]}x{grid[1]} points, as its "
            "k-space has (--axes says which axis is what)"
        )
    return np.broadcast_to(mask[:, None] if across == 0 else mask, plane)
