"""HDF5 with an array `kspace`, fastMRI's files among them (Zbontar et al. 2018): (slices, [coils,] H, W).

A `mask` says which lines are measured, an ISMRMRD header (`ismrmrd_header`) how it was encoded; rows are the readout.
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
        shape, read = by_axes(array, the_axes(axes, array, (f"{third}HW", "SCHW")), path, name)
        encoding = encoding_of(file["ismrmrd_header"][()], path) if "ismrmrd_header" in file else None
        yield Kspace(path, name, shape, read, dict(file.attrs), _mask(file, path, shape), encoding)


def _mask(file: h5py.File, path: Path, shape: tuple[int, int, int, int]) -> np.ndarray | None:
    """What a file's mask says is measured: lines (W,) or points (H, W), boolean; one for all slices and coils."""
    if not isinstance(file.get("mask"), h5py.Dataset):
        return None
    mask, grid = np.asarray(file["mask"][()]), shape[2:]
    if mask.dtype.kind not in "buif" or not np.isin(mask, (0, 1)).all():
        raise StudyError(f"{path}: 'mask' of {mask.dtype} with values other than 0 and 1")
    mask = mask.astype(bool)
    while mask.ndim > 1 and (mask.ndim > 2 or mask.shape != grid):
        if not (mask == mask[:1]).all():
            raise StudyError(
                f"{path}: 'mask' of shape {mask.shape} differs between slices or coils; expected one for all"
            )
        mask = mask[0]
    if mask.shape not in (grid, grid[1:]):
        raise StudyError(f"{path}: 'mask' of shape {mask.shape}, expected {grid[1:]} lines, as its k-space has columns")
    return mask
