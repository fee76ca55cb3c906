"""BART's pair of files (Uecker et al. 2015): x.hdr, dimensions in text, and x.cfl, complex64 with the first axis fastest.

Axes 0 to 2 are readout, first and second phase encoding, of which two count here; axis 3 is coils, axis 13 slices.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kdmri_lib.datasets.reading import reading
from kdmri_lib.deployment.readers.base import Kspace, by_axes
from kdmri_lib.errors import StudyError

COILS, SLICES = 3, 13


@contextmanager
def opened(path: Path, axes: str = "", name: str = "kspace", lines_axis: int = 1, third: str = "S") -> Iterator[Kspace]:
    """The array of a pair, by the name of either file; its axes are BART's, and `axes` empty."""
    if axes:
        raise StudyError(f"{path}: axes '{axes}', but BART's are fixed; expected none")
    header, data = path.with_suffix(".hdr"), path.with_suffix(".cfl")
    with reading(header, "BART header"):
        text = [line for line in header.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        sizes = [int(size) for size in text[0].split()]
    with reading(data, "BART array"):
        if data.stat().st_size != 8 * np.prod(sizes, dtype=object):
            raise StudyError(
                f"{data}: {data.stat().st_size} bytes, expected {8 * np.prod(sizes, dtype=object)} for {sizes} by {header}"
            )
        plane = [axis for axis in range(3) if len(sizes) > axis and sizes[axis] > 1]
        used = [*plane, COILS, SLICES]
        others = {axis: size for axis, size in enumerate(sizes) if size > 1 and axis not in used}
        if len(plane) != 2 or others:
            raise StudyError(
                f"{header}: sizes {sizes}, expected two of axes 0 to 2, coils on axis {COILS} and slices on axis {SLICES}"
            )
        array = np.memmap(data, np.complex64, mode="r", shape=tuple(sizes), order="F")
        array = array.reshape([size for axis, size in enumerate(sizes) if axis in used], order="F")
        letters = dict(zip(used, "HWCS", strict=True))
        shape, read = by_axes(array, "".join(letters[axis] for axis in used if axis < len(sizes)), data, data.name)
        yield Kspace(data, data.name, shape, read, {})
