"""k-space in files, one reader per format: each opens a `base.Kspace`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py

from kdmri_lib.datasets.folders import ends_in
from kdmri_lib.deployment.readers import bart, hdf5, ismrmrd_file, matlab, numpy_file
from kdmri_lib.deployment.readers.base import Kspace

READERS = {(".cfl", ".hdr"): bart, (".mat",): matlab, (".npy",): numpy_file}


@contextmanager
def open_kspace(
    path: Path, axes: str = "", lines_axis: int = 1, name: str = "kspace", third: str = "S"
) -> Iterator[Kspace]:
    """The k-space of a file, by its ending; HDF5 by what it holds.

    Parameters
    ----------
    axes : what an array's axes are, in order: S slices, C coils, H rows, W columns; each format's usual ones when empty.
    lines_axis : the axis of (H, W) across which lines of a scan lie whose file has readouts and no array.
    name : of the array, in formats that hold several.
    third : what the third axis of a usual array of three is, S or C.
    """
    reader = next((module for endings, module in READERS.items() if ends_in(path.name, endings)), None)
    if reader is None:
        try:
            with h5py.File(path, "r") as file:
                reader = ismrmrd_file if ismrmrd_file.is_ismrmrd(file) else hdf5
        except OSError:
            reader = hdf5  # which says what is wrong
    with ExitStack() as stack:
        found = stack.enter_context(reader.opened(path, axes, name, lines_axis, third))
        try:
            yield found
        finally:
            stack.close()  # so that what fails outside isn't blamed on the file
