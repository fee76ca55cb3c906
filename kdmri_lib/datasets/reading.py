"""Reading other people's files: whatever is wrong with one becomes a message that names it."""

from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from kdmri_lib.errors import StudyError


@contextmanager
def reading(path: Path, what: str):
    """Turn every failure to read `path` in the block into a `StudyError` that names the file and what was expected.

    Readers of images raise many kinds on damaged files, so all kinds count but the lack of memory.
    """
    try:
        yield
    except (StudyError, MemoryError):
        raise
    except FileNotFoundError:
        if path.is_symlink():
            raise StudyError(f"{path}: a link to {path.readlink()}, which isn't there; expected a file") from None
        raise StudyError(f"{path}: no such file") from None
    except PermissionError:
        raise StudyError(f"{path}: no permission to read it") from None
    except BlockingIOError:
        raise StudyError(f"{path}: another program has it open for writing") from None
    except Exception as error:
        raise StudyError(f"{path}: not a readable {what}, or cut short ({error})") from None


@contextmanager
def open_hdf5(path: Path, what: str):
    """Yield an HDF5 file for reading; failures in the block are messages, as `reading` makes them."""
    with reading(path, what), h5py.File(path, "r") as file:
        yield file


def hdf5_array(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    """The array `name` of a file, unread; `StudyError` says what the file has where it hasn't that one."""
    if not isinstance(file.get(name), h5py.Dataset):
        raise StudyError(f"{path}: no array '{name}'; it has {', '.join(sorted(file)) or 'nothing'}")
    return file[name]


def as_complex(values: np.ndarray, path: Path) -> np.ndarray:
    """complex64 from what HDF5 gives for complex numbers: complex itself, or MATLAB's compound of real and imag."""
    if values.dtype.names == ("real", "imag"):
        return values["real"].astype(np.float32) + 1j * values["imag"].astype(np.float32)
    if np.iscomplexobj(values):
        return values.astype(np.complex64, copy=False)
    raise StudyError(f"{path}: values of type {values.dtype}, expected complex numbers")
