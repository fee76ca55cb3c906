"""What every reader of k-space gives: an array that is read slice by slice, and what the file says of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdmri_lib.datasets.reading import as_complex, reading
from kdmri_lib.deployment.readers.encoding import Encoding
from kdmri_lib.errors import StudyError

LETTERS = "SCHW"  # slices, coils, rows, columns
Read = Callable[[int, int], np.ndarray]


class Kspace(NamedTuple):
    """k-space in a file, in the order that the file has.

    shape : (slices, coils, H, W).
    read : slices `first` to `first + count`: (count, coils, H, W) complex64.
    attributes : what the file says of the scan, for the output.
    mask : what it says is measured, boolean (H, W), in the array's order.
    encoding : what its header says.
    readout : the axis of (H, W) that the readout runs along, where `encoding` is known.
    partial_echo : whether readouts are declared to be cut on one side.
    """

    path: Path
    name: str
    shape: tuple[int, int, int, int]
    read: Read
    attributes: dict
    mask: np.ndarray | None = None
    encoding: Encoding | None = None
    readout: int = 0
    partial_echo: bool = False


def by_axes(array, axes: str, path: Path, name: str) -> tuple[tuple[int, int, int, int], Read]:
    """Shape (slices, coils, H, W) and `Kspace.read` of an array that is read by slicing, its axes named by `LETTERS`.

    Raises
    ------
    StudyError
        When there are as many axes as letters in none of what `axes` says, a letter is missing or unknown, or nothing is in
        the array; on reading, when values aren't complex numbers.
    """
    found = tuple(getattr(array, "shape", ()))
    if len(found) != len(axes) or 0 in found:
        expected = " x ".join({"S": "slices", "C": "coils", "H": "H", "W": "W"}[letter] for letter in axes)
        raise StudyError(f"{path}: '{name}' of shape {found}, expected {expected} (--axes says which axis is what)")
    shape = tuple(found[axes.index(letter)] if letter in axes else 1 for letter in LETTERS)

    def read(first: int, count: int) -> np.ndarray:
        with reading(path, f"array '{name}'"):
            index = tuple(slice(first, first + count) if letter == "S" else slice(None) for letter in axes)
            values = as_complex(np.asarray(array[index]), path)
        values = values.transpose([axes.index(letter) for letter in LETTERS if letter in axes])
        for place, letter in enumerate(LETTERS):
            values = values if letter in axes else np.expand_dims(values, place)
        return np.array(values, order="C")  # its own memory, not the file's

    return shape, read


def the_axes(axes: str, array, usual: Sequence[str]) -> str:
    """The letters of an array's axes: those that are given, checked, or the usual ones for as many axes as it has."""
    if axes:
        if sorted(axes) not in [sorted(letters) for letters in ("HW", "SHW", "CHW", "SCHW")]:
            raise StudyError(
                f"axes '{axes}': expected H and W, with S (slices) and C (coils) where there are, each once"
            )
        return axes
    ndim = len(getattr(array, "shape", ()))
    return next((letters for letters in usual if len(letters) == ndim), usual[0])
