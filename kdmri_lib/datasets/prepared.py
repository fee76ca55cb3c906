"""The prepared format: one HDF5 file per data set, the only thing that training and evaluation read.

``/volumes/<subject>`` holds (slices, H, W) float32 in [0, 1], normalised by the volume's maximum, chunked per slice; of a
data set that is declared complex, complex64, normalised by the maximum of its magnitude. Its attributes say split
("train", "validation", "test", or the name of a further test set), person (whose it is), kind (real MR, virtual subject,
phantom), origin, scale (the maximum it was divided by), mean (of the magnitude), sha256 of its bytes, and what its source
knows beside (spacing in mm, coils, …). ``/sources/<subject>`` is JSON: the SHA-256 of each file that it was made from, by
its path below the download; of volumes that were left out too, empty for a file that can't be read. The root's attributes
say format, declaration (JSON), code (the number of its source's images), content, the SHA-256 over all volumes, and
left_out (JSON): the volumes that couldn't be made, with the reason.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch

from kdmri_lib.channels import as_channels
from kdmri_lib.datasets.reading import hdf5, open_hdf5
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
def opened(path: Path) -> Iterator[h5py.File]:
    """A prepared file for reading; whatever is wrong with it, in the block too, is a `StudyError` that names it."""
    if not Path(path).exists():
        raise StudyError(f"{path}: no such file; notebook 01 prepares it")
    with open_hdf5(path, "prepared file") as file:
        found = file.attrs.get("format")
        if found != FORMAT:
            raise StudyError(f"{path}: format {found!r}, expected {FORMAT!r}")
        yield file


def _attribute(path: Path, name: str):
    with opened(path) as file:
        return file.attrs[name]


def preparing_code(path: Path) -> int:
    """The number of the source's images that the file holds (`preparing.images_number`)."""
    return _attribute(path, "code")


def content_checksum(path: Path) -> str:
    """The SHA-256 over all volumes, 64 hex digits, as recorded when the file was written."""
    return str(_attribute(path, "content"))


def left_out(path: Path) -> dict[str, str]:
    """The reason by volume, of those that couldn't be made when the file was."""
    return json.loads(_attribute(path, "left_out"))


def source_checksums(path: Path) -> dict[str, dict[str, str]]:
    """SHA-256 by file by volume, of the files that each was made from; see above for those left out."""
    with opened(path) as file:
        return {volume: json.loads(data[()]) for volume, data in file["sources"].items()}


def splits(path: Path) -> dict[str, list[str]]:
    """Names of the volumes by split, sorted."""
    found: dict[str, list[str]] = {}
    with opened(path) as file:
        for subject, data in sorted(file["volumes"].items()):
            found.setdefault(str(data.attrs["split"]), []).append(subject)
    return found


def read_prepared(path: Path, split: str | None = None, subjects: Collection[str] | None = None) -> Iterator[Volume]:
    """Yield the volumes of one split (all by default), of these subjects (all by default), by name, one at a time.
    `StudyError` when there is none, or a volume isn't what was written, by its checksum."""
    there = [(of, name) for of, names in splits(path).items() for name in names if split in (None, of)]
    chosen = sorted((name, of) for of, name in there if subjects is None or name in subjects)
    if not chosen:
        raise StudyError(f"{path}: no volume" + (f" in split '{split}'" if split else ""))
    with opened(path) as file:
        for subject, of in chosen:
            data = file["volumes"][subject]
            try:
                image = data[:]
            except OSError as error:
                raise StudyError(f"{path}: volume {subject} can't be read, the file is damaged ({error})") from None
            attributes = {name: value for name, value in data.attrs.items() if name != "split"}
            if image_sha256(image) != attributes["sha256"]:
                raise StudyError(f"{path}: volume {subject} was altered (its checksum doesn't match); delete the file")
            yield Volume(subject, of, image, attributes)


def test_volumes(path: Path) -> Iterator[Volume]:
    """Yield the volumes that nothing trains on or is chosen by: every test set, one volume at a time."""
    for split in splits(path):
        if split not in ("train", "validation"):
            yield from read_prepared(path, split)


class Slices:
    """The slices of one split as one (n, C, H, W) array of float32, C = 2 of complex images: held in memory, or read when
    a batch asks for them.

    Volumes are checked once, here. `names` says whose each slice is. A split larger than `held_bytes` stays in the file.
    `subjects` : [first, end) of the split's volumes, by name; all when not given. `StudyError` when the split hasn't so
    many volumes, or one was altered.
    """

    def __init__(self, path: Path, split: str, held_bytes: int = HELD_BYTES, subjects: tuple[int, int] | None = None):
        there = splits(path).get(split, [])
        first, end = subjects or (0, len(there))
        if subjects and not first < end <= len(there):
            raise StudyError(
                f"{path}: volumes {first} to {end} of split '{split}' are asked for, which has {len(there)}"
            )
        self._places: list[tuple[str, int]] = []
        held: list[np.ndarray] = []
        total = 0
        for volume in read_prepared(path, split, there[first:end]):
            self._places += [(volume.subject, n) for n in range(len(volume.image))]
            total += volume.image.nbytes
            held = [*held, volume.image] if total <= held_bytes else []
        self.names = [f"{subject} slice {n}" for subject, n in self._places]
        self.shape = (len(self.names), *as_channels(volume.image).shape[1:])
        self.in_memory = bool(held)
        self._held = as_channels(np.concatenate(held)) if held else None
        self._file = None if held else hdf5(path)
        self.device = torch.device("cpu")

    def of_first(self, volumes: int) -> int:
        """How many slices the first so many volumes have."""
        starts = [place for place, (_, n) in enumerate(self._places) if n == 0]
        if volumes > len(starts):
            raise StudyError(f"{volumes} volumes with true images are asked for, of {len(starts)}")
        return [*starts, len(self)][volumes]

    def to(self, device: torch.device) -> "torch.Tensor | Slices":
        """All slices on `device` where they are held; else this, which moves what it reads."""
        if self.in_memory:
            return self._held.to(device)
        self.device = device
        return self

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: int | list[int]) -> torch.Tensor:
        """One slice (C, H, W), or several (B, C, H, W), float32, on `device`."""
        if self.in_memory:
            return self._held[chosen]
        if isinstance(chosen, int):
            return self[[chosen]][0]
        read = [self._file["volumes"][subject][n] for subject, n in (self._places[c] for c in chosen)]
        return as_channels(np.stack(read)).to(self.device)


def index(path: Path) -> pd.DataFrame:
    """A table, one row per volume: subject, person, split, slices, size, and every attribute that its source gave."""
    rows = []
    with opened(path) as file:
        for name, data in sorted(file["volumes"].items()):
            given = {k: _plain(v) for k, v in data.attrs.items() if k != "sha256"}
            about = {"subject": name, "person": given.pop("person", name), "split": given.pop("split")}
            rows.append({**about, "slices": len(data), "size": f"{data.shape[1]}×{data.shape[2]}", **given})
    return pd.DataFrame(rows)


def _plain(value):
    return " × ".join(f"{v:.4g}" for v in value) if isinstance(value, np.ndarray) else value
