"""Arrays of MATLAB files: 7.3, which is HDF5 with axes reversed and complex numbers as compounds, and older ones."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np

from kdmri_lib.datasets.reading import as_complex, hdf5, hdf5_array, reading
from kdmri_lib.errors import StudyError


def is_older(path: Path) -> bool:
    """Whether a MATLAB file was written before 7.3; `StudyError` when it can't be read."""
    with reading(path, "MATLAB file"), path.open("rb") as file:
        return not file.read(128).startswith(b"MATLAB 7.3")


def read_mat(path: Path, name: str, alone: bool = False) -> np.ndarray:
    """A complex array of a MATLAB file, v7.3 or older, in MATLAB's order of axes; complex64. With `alone`, an older file's
    only complex array, whatever it is called."""
    with reading(path, "MATLAB file"):
        if is_older(path):
            return as_complex(_load_older(path, name, alone), path)
        with hdf5(path) as file:
            return as_complex(hdf5_array(file, path, name)[:], path).T


# Written to stdout: the array as .npy, or after nothing else the names of what is there, as bytes of text.
LOADING = """
import io, sys
import numpy, scipy.io
path, name, alone = sys.argv[1:]
there = scipy.io.loadmat(path, variable_names=[name])
if name not in there:
    there = {n: v for n, v in scipy.io.loadmat(path).items() if not n.startswith("__")} if alone else {}
    kinds = [n for n, v in there.items() if numpy.iscomplexobj(v)]
    name = kinds[0] if len(kinds) == 1 else name
content = io.BytesIO()
if name in there:
    numpy.save(content, there[name], allow_pickle=False)
else:
    content.write(", ".join(n for n, *_ in scipy.io.whosmat(path)).encode())
sys.stdout.buffer.write(content.getvalue())
"""


def _load_older(path: Path, name: str, alone: bool) -> np.ndarray:
    """By `scipy.io.loadmat` in a process of its own: damaged files crash it (SciPy 1.17), which must not end ours. Nor must
    the user's script be run again there, as `multiprocessing` does."""
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(path), name, "alone" if alone else ""], capture_output=True
    )
    if done.returncode < 0:
        raise StudyError(f"{path}: damaged: SciPy crashed while it read this MATLAB file")
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    if not done.stdout.startswith(b"\x93NUMPY"):
        raise StudyError(f"{path}: no array '{name}'; it has {done.stdout.decode(errors='replace') or 'nothing'}")
    return np.load(io.BytesIO(done.stdout), allow_pickle=False)
