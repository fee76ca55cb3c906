"""The prepared files of the published KD-MRI code, as they are.

``train/acc_4x/N.h5`` and ``validation/acc_4x/N.h5`` (5x and 8x hold the same images), each with `volfs` (H, W, slices),
or (H, W) on the knee. The published validation part is what the paper's tables are computed on: here it only tests, and
the last of the training part validates. To use the published masks, give `masks`, a path with {factor} in it
(mask_{factor}x.npy). A file is taken for a subject, since nothing in it says whose it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kdmri_lib.datasets.cohort import Member, in_order
from kdmri_lib.datasets.folders import files_in, folder_of
from kdmri_lib.datasets.framing import middle
from kdmri_lib.datasets.reading import hdf5_array, open_hdf5
from kdmri_lib.datasets.values import magnitudes
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

ENDINGS = (".h5",)
OPTIONS = {"masks": str}


def cohort(dataset: Dataset) -> Iterator[Member]:
    """A volume per file; the published validation part only tests."""
    folder = folder_of(dataset)
    for part, split in (("train", ""), ("validation", "test")):
        factors = in_order(place for place in (folder / part).glob("acc_*x") if place.is_dir())
        if not factors:
            raise StudyError(f"{folder / part}: no folder acc_4x, acc_5x or acc_8x")
        for entry in files_in(factors[0], ENDINGS, dataset.pattern or "*"):
            subject = f"{part}_{entry.bare.name}"
            yield Member(split, subject, subject, {"file": str(entry.file)})


@contextmanager
def _volume(path: Path):
    """Yield a file's array, unread: (H, W, slices) or (H, W)."""
    with open_hdf5(path, "prepared file of the published code") as data:
        volume = hdf5_array(data, path, "volfs")
        if volume.ndim not in (2, 3) or 0 in volume.shape:
            raise StudyError(f"{path}: volfs of shape {volume.shape}, expected (H, W, slices) or (H, W)")
        yield volume


def count(dataset: Dataset, file: str) -> int:
    """How many slices `make` will give, from the array's shape."""
    with _volume(Path(file)) as volume:
        return len(middle(volume.shape[2] if volume.ndim == 3 else 1, dataset.slices_per_volume))


def make(dataset: Dataset, file: str) -> tuple[np.ndarray, dict]:
    """One volume, (slices, H, W) as stored, float32 or float64, and its attributes."""
    path = Path(file)
    with _volume(path) as volume:
        slices = volume[:].reshape(*volume.shape[:2], -1).transpose(2, 0, 1)
    slices, attributes = magnitudes(slices, path)
    chosen = slices[list(middle(len(slices), dataset.slices_per_volume))]
    return chosen, {"origin": f"{path.parent.parent.name}/{path.name}"} | attributes
