"""NumPy's .npy: a complex array (slices, [coils,] H, W), read without being loaded whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kdmri_lib.datasets.reading import reading
from kdmri_lib.deployment.readers.base import Kspace, by_axes, the_axes


@contextmanager
def opened(path: Path, axes: str = "", name: str = "kspace", lines_axis: int = 1, third: str = "S") -> Iterator[Kspace]:
    """The file's array."""
    with reading(path, "NumPy array"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        shape, read = by_axes(array, the_axes(axes, array, (f"{third}HW", "SCHW")), path, path.name)
        yield Kspace(path, path.name, shape, read, {})
