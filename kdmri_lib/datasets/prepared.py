"""The prepared format: one HDF5 file per data set, the only thing that training and evaluation read.

``/volumes/<subject>`` holds (slices, H, W) float32 in [0, 1], normalised by the volume's maximum, chunked per slice; of a
data set that is declared complex, complex64, normalised by the maximum of its magnitude. Its attributes say split
("train", "validation", "test", or the name of a further test set), person (whose it is), kind (real MR, virtual subject,
phantom), origin, scale (the maximum it was divided by), mean (of the magnitude), sha256 of its bytes, and what its source
knows beside (spacing in mm, coils, …). ``/sources/<subject>`` is JSON: the SHA-256 of each file that it was made from, by
its path below the download; of volumes that were left out too, empty for a file that can't be read. The root's attributes
say format, declaration (JSON), code (its fingerprint), content, the SHA-256 over all volumes, and left_out (JSON): the
volumes that couldn't be made, with the reason.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from kdmri_lib.channels import as_channels
from kdmri_lib.datasets.reading import open_hdf5
from kdmri_lib.errors import StudyError

FORMAT = "kdmri-prepared-1"
HELD_BYTES = 4 * 2**30  # of a split's slices, beyond which training reads them from the file


@dataclass(frozen=True)
class Volume:
    """One volume: `image` (slices, H, W) float32 in [0, 1], or complex64 of such magnitudes, `subject` its name, and the
    attributes of the file."""

    subject: str
    split: str
    image: np.ndarray
    attributes: dict


def image_sha256(image: np.ndarray) -> str:
    """SHA-256 of an image's bytes, 64 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(image)).hexdigest()


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """A prepared file for reading; whatever is wrong with it, in the block too, is a `StudyError` that names it."""
    if not Path(path).exists():
        raise StudyError(f"{path}: no such file; notebook 01 prepares it")
    with open_hdf5(path, "prepared file") as file:
        found = file.attrs.get("format")
        if found != FORMAT:
            raise StudyError(f"{path}: format {found!r}, expected {FORMAT!r}")
        yield file


def preparing_code(path: Path) -> str:
    """Fingerprint of the code that wrote the file, 12 hex digits."""
    with _open(path) as file:
        return str(file.attrs.get("code"))


def content_checksum(path: Path) -> str:
    """The SHA-256 over all volumes, 64 hex digits, as recorded when the file was written."""
    with _open(path) as file:
        return str(file.attrs["content"])


def read_prepared(path: Path, split: str | None = None, subjects: Collection[str] | None = None) -> Iterator[Volume]:
    """Yield the volumes of one split (all by default), of these subjects (all by default), by name, one at a time, each
    checked against its checksum."""
    found = False
    with _open(path) as file:
        for subject, data in sorted(file["volumes"].items()):
            attributes = dict(data.attrs)
            if split not in (None, attributes["split"]) or (subjects is not None and subject not in subjects):
                continue
            found = True
            image = _checked(path, subject, data)
            yield Volume(subject, attributes.pop("split"), image, attributes)
    if not found:
        raise StudyError(f"{path}: no volume" + (f" in split '{split}'" if split else ""))


def _checked(path: Path, subject: str, data: h5py.Dataset) -> np.ndarray:
    """The image of one volume; `StudyError` when it isn't what was written."""
    try:
        image = data[:]
    except OSError as error:
        raise StudyError(f"{path}: volume {subject} can't be read, the file is damaged ({error})") from None
    if image_sha256(image) != data.attrs["sha256"]:
        raise StudyError(f"{path}: volume {subject} was altered (its checksum doesn't match); delete the file")
    if not np.isfinite(image).all() or not image.any():
        raise StudyError(f"{path}: volume {subject} is all zero, or holds NaN or infinite values")
    return image


def left_out(path: Path) -> dict[str, str]:
    """The reason by volume, of those that couldn't be made when the file was."""
    with _open(path) as file:
        return json.loads(file.attrs.get("left_out", "{}"))


def source_checksums(path: Path) -> dict[str, dict[str, str]]:
    """SHA-256 by file by volume, of the files that each was made from; see above for those left out."""
    with _open(path) as file:
        return {volume: json.loads(data[()]) for volume, data in file["sources"].items()}


def splits(path: Path) -> dict[str, list[str]]:
    """Names of the volumes by split, sorted."""
    found: dict[str, list[str]] = {}
    with _open(path) as file:
        for subject, data in sorted(file["volumes"].items()):
            found.setdefault(str(data.attrs["split"]), []).append(subject)
    return found


def test_volumes(path: Path) -> Iterator[Volume]:
    """Yield the volumes that nothing trains on or is chosen by: every test set, one volume at a time."""
    for split in splits(path):
        if split not in ("train", "validation"):
            yield from read_prepared(path, split)


class Slices:
    """The slices of one split as one (n, C, H, W) array of float32, C = 2 of complex images: held in memory, or read when
    a batch asks for them.

    Volumes are checked once, here. `names` says whose each slice is. A split larger than `held_bytes` stays in the file.
    `subjects` : [first, end) of the split's volumes, by name; all when not given.

    Raises
    ------
    StudyError
        When the split hasn't so many volumes, or one was altered.
    """

    def __init__(self, path: Path, split: str, held_bytes: int = HELD_BYTES, subjects: tuple[int, int] | None = None):
        self.names: list[str] = []
        self._places: list[tuple[str, int]] = []
        volumes: list[np.ndarray] = []
        total = 0
        for volume in self._volumes(path, split, subjects):
            count = len(volume.image)
            self.names += [f"{volume.subject} slice {n}" for n in range(count)]
            self._places += [(volume.subject, n) for n in range(count)]
            total += volume.image.nbytes
            if total <= held_bytes:
                volumes.append(volume.image)
            else:
                volumes.clear()
        self.shape = (len(self.names), *as_channels(volume.image).shape[1:])
        self._held = as_channels(np.concatenate(volumes)) if total <= held_bytes else None
        self._file = None if self._held is not None else h5py.File(path, "r")
        self.device = torch.device("cpu")

    @staticmethod
    def _volumes(path: Path, split: str, subjects: tuple[int, int] | None) -> Iterator[Volume]:
        if subjects is None:
            return read_prepared(path, split)
        held = splits(path).get(split, [])
        first, end = subjects
        if not first < end <= len(held):
            raise StudyError(
                f"{path}: volumes {first} to {end} of split '{split}' are asked for, which has {len(held)}"
            )
        return read_prepared(path, split, held[first:end])

    def of_first(self, volumes: int) -> int:
        """How many slices the first so many volumes have."""
        names = list(dict.fromkeys(subject for subject, _ in self._places))
        if volumes > len(names):
            raise StudyError(f"{volumes} volumes with true images are asked for, of {len(names)}")
        return sum(subject in names[:volumes] for subject, _ in self._places)

    @property
    def in_memory(self) -> bool:
        """Whether the slices are held in memory."""
        return self._held is not None

    def to(self, device: torch.device) -> "torch.Tensor | Slices":
        """All slices on `device` where they are held; else this, which moves what it reads."""
        if self._held is not None:
            return self._held.to(device)
        self.device = device
        return self

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: int | list[int]) -> torch.Tensor:
        """One slice (C, H, W), or several (B, C, H, W), float32, on `device`."""
        if isinstance(chosen, int):
            return self[[chosen]][0]
        if self._held is not None:
            return self._held[chosen]
        read = [self._file["volumes"][subject][n] for subject, n in (self._places[c] for c in chosen)]
        return as_channels(np.stack(read)).to(self.device)
