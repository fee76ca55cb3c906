"""Arrays of MATLAB files: 7.3, which is HDF5 with axes reversed and complex numbers as compounds, and older ones."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from kdmri_lib.datasets.reading import as_complex, hdf5_array, reading
from kdmri_lib.errors import StudyError


def is_older(path: Path) -> bool:
    """Whether a MATLAB file was written before 7.3; `StudyError` when it can't be read."""
    with reading(path, "MATLAB file"), path.open("rb") as file:
        return not file.read(128).startswith(b"MATLAB 7.3")


def read_mat(path: Path, name: str) -> np.ndarray:
    """A complex array of a MATLAB file, v7.3 or older, in MATLAB's order of axes; complex64."""
    with reading(path, "MATLAB file"):
        if is_older(path):
            found = _load_older(path, name)
            if name not in found:
                raise StudyError(f"{path}: no array '{name}'")
            return as_complex(found[name], path)
        with h5py.File(path, "r") as file:
            return as_complex(hdf5_array(file, path, name)[:], path).T


def _load_older(path: Path, name: str) -> dict:
    """`scipy.io.loadmat` in a process of its own: damaged files crash it (SciPy 1.17), which must not end ours."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(scipy.io.loadmat, str(path), variable_names=[name]).result()
        except BrokenProcessPool:
            raise StudyError(f"{path}: damaged: SciPy crashed while it read this MATLAB file") from None
