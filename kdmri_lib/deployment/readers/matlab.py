"""MATLAB files, 7.3 (HDF5, complex numbers as compounds of real and imag, axes reversed) and older.

As MATLAB counts: (H, W, slices) or (H, W, coils, slices). The array `kspace`, or the only complex one that there is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from kdmri_lib.datasets.matlab import is_older, read_mat
from kdmri_lib.datasets.reading import hdf5_array, open_hdf5
from kdmri_lib.deployment.readers.base import Kspace, by_axes, the_axes


@contextmanager
def opened(path: Path, axes: str = "", name: str = "kspace", lines_axis: int = 1, third: str = "S") -> Iterator[Kspace]:
    """The array `name` of a MATLAB file; older than 7.3 it is read whole."""
    usual = (f"HW{third}", "HWCS")
    if is_older(path):
        array = read_mat(path, name)
        shape, read = by_axes(array, the_axes(axes, array, usual), path, name)
        yield Kspace(path, name, shape, read, {})
        return
    with open_hdf5(path, "MATLAB file") as file:
        of_complex = [n for n, a in file.items() if isinstance(a, h5py.Dataset) and a.dtype.names == ("real", "imag")]
        name = of_complex[0] if name not in file and len(of_complex) == 1 else name
        array = hdf5_array(file, path, name)
        shape, read = by_axes(array, the_axes(axes, array, usual)[::-1], path, name)
        yield Kspace(path, name, shape, read, {})
