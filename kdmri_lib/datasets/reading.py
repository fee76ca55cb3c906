"""Reading other people's files: whatever is wrong with one becomes a message that names it."""

import errno
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
def named(where):
    """Begin the message of every `StudyError` in the block with the name of the file, `where`."""
    try:
        yield
    except StudyError as error:
        raise StudyError(f"{where}: {error}") from None


def hdf5(path: Path) -> h5py.File:
    """An HDF5 file for reading; where the file system has no locks (NFS, Lustre), without one."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        return h5py.File(path, "r", locking=False)


@contextmanager
def open_hdf5(path: Path, what: str):
    """Yield an HDF5 file for reading; failures in the block are messages, as `reading` makes them."""
    with reading(path, what), hdf5(path) as file:
        yield file


def hdf5_array(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    """The array `name` of a file, unread; `StudyError` says what the file has where it hasn't that one."""
    if not isinstance(file.get(name), h5py.Dataset):
        raise StudyError(f"{path}: no array '{name}'; it has {', '.join(sorted(file)) or 'nothing'}")
    return file[name]


def text_attribute(attributes: h5py.AttributeManager, name: str) -> str:
    """A text that an HDF5 file says of itself, however it is stored: as characters, as bytes, or as an array of one of
    them; empty where there is none."""
    found = np.ravel(attributes.get(name, ""))
    text = found[0] if len(found) else ""
    return (text.decode(errors="replace") if isinstance(text, bytes) else str(text)).strip("\0 \n")


def as_complex(values: np.ndarray, path: Path) -> np.ndarray:
    """complex64 from what HDF5 gives for complex numbers: complex itself, or MATLAB's compound of real and imag."""
    if values.dtype.names == ("real", "imag"):
        return values["real"].astype(np.float32) + 1j * values["imag"].astype(np.float32)
    if np.iscomplexobj(values):
        return values.astype(np.complex64, copy=False)
    raise StudyError(f"{path}: values of type {values.dtype}, expected complex numbers")
