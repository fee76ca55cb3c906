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
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch

from kdmri_lib.channels import as_channels, magnitude
from kdmri_lib.datasets.reading import hdf5, open_hdf5
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import atomic_write, reserve

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


def attribute(path: Path, name: str):
    """One of the root's attributes, such as "content", the SHA-256 over all volumes, 64 hex digits."""
    with opened(path) as file:
        return file.attrs[name]


def left_out(path: Path) -> dict[str, str]:
    """The reason by volume, of those that couldn't be made when the file was."""
    return json.loads(attribute(path, "left_out"))


def source_checksums(path: Path) -> dict[str, dict[str, str]]:
    """SHA-256 by file by volume, of the files that each was made from; those left out too."""
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
    with opened(path) as file:
        there = [(name, data) for name, data in sorted(file["volumes"].items()) if subjects is None or name in subjects]
        if not (chosen := [each for each in there if split in (None, each[1].attrs["split"])]):
            raise StudyError(f"{path}: no volume" + (f" in split '{split}'" if split else ""))
        for subject, data in chosen:
            try:
                image = data[:]
            except OSError as error:
                raise StudyError(f"{path}: volume {subject} can't be read, the file is damaged ({error})") from None
            attributes = dict(data.attrs)
            if image_sha256(image) != attributes["sha256"]:
                raise StudyError(f"{path}: volume {subject} was altered (its checksum doesn't match); delete the file")
            yield Volume(subject, str(attributes.pop("split")), image, attributes)


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
        held, total = [], 0
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
            given = {k: " × ".join(f"{n:.4g}" for n in v) if np.ndim(v) else v for k, v in data.attrs.items()}
            about = {"subject": name, "person": given.pop("person", name), "split": given.pop("split")}
            rows.append({**about, "slices": len(data), "size": f"{data.shape[1]}×{data.shape[2]}", **given})
    return pd.DataFrame(rows).drop(columns="sha256")


def checked_volume(
    subject: str, split: str, image: np.ndarray, attributes: dict, shape: tuple[int, int], domain: str | None = None
) -> Volume:
    """A raw magnitude volume (slices, *shape) divided by its maximum, which becomes its attribute "scale"; or, where
    `domain` is "complex", a complex one divided by its magnitude's. `StudyError` for what is no such volume."""
    kinds, expected, kept = "iufb", "real numbers", np.float32
    if domain:
        kinds, expected, kept = "c", "complex numbers (domain: complex)", np.complex64
    if (found := np.asarray(image).dtype).kind not in kinds:
        raise StudyError(f"volume {subject}: values of type {found}, expected {expected}")
    image = np.asarray(image, dtype=kept)
    if image.ndim != 3 or image.shape[1:] != tuple(shape):
        raise StudyError(f"volume {subject}: shape {image.shape}, expected (slices, {shape[0]}, {shape[1]})")
    if not len(image):
        raise StudyError(f"volume {subject}: no slices")
    if wrong := np.count_nonzero(~np.isfinite(image)):
        raise StudyError(f"volume {subject}: {wrong} values are NaN or infinite")
    size = magnitude(image)
    if size.min() < 0:
        raise StudyError(f"volume {subject}: negative values (down to {size.min():.3g}); expected magnitude images")
    if (image == image.flat[0]).all():
        raise StudyError(f"volume {subject}: {'the same value everywhere' if image.any() else 'all zero'}")
    scale = float(size.max())
    return Volume(subject, split, image / np.float32(scale), {**attributes, "scale": scale})


def kept_apart(known: dict[str, tuple[str, str]], where: str, volume: str, split: str, person: str, checksum: str):
    """Note a volume's person and its image's checksum in `known`: the first volume and its split by each. `StudyError`,
    which begins with `where`, when the same person, or the same image, was in another split."""
    for what, key in (("person", person), ("image", checksum)):
        before, other = known.setdefault(f"{what} {key}", (volume, split))
        if other != split:
            raise StudyError(f"{where}: {before} in {other} and {volume} in {split} are the same {what}")


def write_prepared(
    path: Path,
    declaration: str,
    code: int,
    volumes: Iterable[Volume],
    left_out: Mapping[str, tuple[str, Mapping[str, str]]] | None = None,
    size: int = 0,
) -> None:
    """Write all volumes, or nothing: the file appears at `path` when it is whole. `StudyError` when a person, or the same
    image, is in two splits.

    Parameters
    ----------
    code : number of the images that the source makes.
    volumes : of each, the attribute "sources" (SHA-256 by file) becomes a data set of its own, since a series of many files
        is more than an attribute holds.
    left_out : by volume that isn't there, the reason, and SHA-256 by file.
    size : bytes that are needed on the disk; 0 for a file that is small enough to be made in memory.
    """
    checksums, known, left_out = [], {}, left_out or {}
    # HDF5 (2.0) crashes later on when a file that it writes doesn't fit on the disk. What is made in memory is written
    # without it; for all else a lack of space is found before.
    in_memory = {"locking": False} if size else {"driver": "core", "backing_store": False}
    with atomic_write(path) as temporary:
        reserve(temporary, size)
        with h5py.File(temporary, "w", **in_memory) as file:
            for volume in volumes:
                name, attributes, checksum = volume.subject, dict(volume.attributes), image_sha256(volume.image)
                file[f"sources/{name}"] = json.dumps(attributes.pop("sources", {}))
                chunks = (1, *volume.image.shape[1:])
                data = file.create_dataset(f"volumes/{name}", data=volume.image, chunks=chunks)
                mean = round(float(magnitude(volume.image).mean()), 6)
                data.attrs.update({**attributes, "split": volume.split, "mean": mean, "sha256": checksum})
                kept_apart(known, str(path), name, volume.split, str(attributes.get("person", name)), checksum)
                checksums.append((name, checksum))
            for name, (_, sources) in left_out.items():
                file[f"sources/{name}"] = json.dumps(sources)
            content = hashlib.sha256("".join(f"{name} {sha}\n" for name, sha in sorted(checksums)).encode()).hexdigest()
            about = {"format": FORMAT, "declaration": declaration, "code": code, "content": content}
            reasons = {name: reason for name, (reason, _) in left_out.items()}
            file.attrs.update({**about, "left_out": json.dumps(reasons)})
            file.flush()
            whole = b"" if size else file.id.get_file_image()
        if whole:
            temporary.write_bytes(whole)
