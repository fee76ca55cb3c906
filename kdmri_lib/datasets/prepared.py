"""The prepared format: one HDF5 file a data set, the only thing that training and evaluation read.

``/volumes/<subject>`` holds (slices, H, W) float32 in [0, 1], normalised by the volume's maximum, chunked a slice. Its
attributes say split ("train", "validation", "test", or the name of a further test set), kind (real MR, virtual subject,
phantom), origin, scale (the maximum it was divided by) and sha256 of its bytes. The root's attributes say format,
declaration (JSON), code (its fingerprint) and content, the SHA-256 over all volumes.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from kdmri_lib.errors import StudyError
from kdmri_lib.files import whole_file

FORMAT = "kdmri-prepared-1"


@dataclass(frozen=True)
class Volume:
    """One subject's slices: `image` (slices, H, W) float32 in [0, 1]."""

    subject: str
    split: str
    image: np.ndarray
    attributes: dict


def checked_volume(subject: str, split: str, image: np.ndarray, attributes: dict, shape: tuple[int, int]) -> Volume:
    """Normalise a raw magnitude volume by its maximum.

    Raises
    ------
    StudyError
        When slices aren't `shape`, a value is NaN, infinite or negative, or the volume is all zero.
    """
    image = np.asarray(image, dtype=np.float32)
    if image.ndim != 3 or image.shape[1:] != tuple(shape):
        raise StudyError(f"volume {subject}: shape {image.shape}, expected (slices, {shape[0]}, {shape[1]})")
    if not np.isfinite(image).all():
        raise StudyError(f"volume {subject}: {np.count_nonzero(~np.isfinite(image))} values are NaN or infinite")
    if image.min() < 0:
        raise StudyError(f"volume {subject}: negative values (down to {image.min():.3g}); expected magnitude images")
    scale = float(image.max())
    if scale == 0:
        raise StudyError(f"volume {subject}: all zero")
    return Volume(subject, split, image / np.float32(scale), {**attributes, "scale": scale})


def _sha256(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image)).hexdigest()


def _content(checksums: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{subject} {sha}\n" for subject, sha in sorted(checksums)).encode()).hexdigest()


def write_prepared(path: Path, declaration: str, code: str, volumes: Iterable[Volume]) -> None:
    """Write all volumes, or nothing: the file appears at `path` when it is whole. `code`: fingerprint of what made it."""
    with whole_file(path) as temporary:
        checksums = []
        with h5py.File(temporary, "w") as file:
            for volume in volumes:
                name = f"volumes/{volume.subject}"
                data = file.create_dataset(name, data=volume.image, chunks=(1, *volume.image.shape[1:]))
                checksums.append((volume.subject, _sha256(volume.image)))
                data.attrs.update({**volume.attributes, "split": volume.split, "sha256": checksums[-1][1]})
            file.attrs.update(
                {"format": FORMAT, "declaration": declaration, "code": code, "content": _content(checksums)}
            )


def _open(path: Path) -> h5py.File:
    if not Path(path).exists():
        raise StudyError(f"{path}: no such file; notebook 01 prepares it")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise StudyError(f"{path}: not an HDF5 file, or cut short ({error})") from None
    found = file.attrs.get("format")
    if found != FORMAT:
        file.close()
        raise StudyError(f"{path}: format {found!r}, expected {FORMAT!r}")
    return file


def preparing_code(path: Path) -> str:
    """Fingerprint of the code that wrote the file."""
    with _open(path) as file:
        return str(file.attrs.get("code"))


def content_checksum(path: Path) -> str:
    """The SHA-256 over all volumes, as recorded when the file was written."""
    with _open(path) as file:
        return str(file.attrs["content"])


def read_prepared(path: Path, split: str | None = None) -> list[Volume]:
    """Read the volumes of one split (all by default) into memory, each checked against its checksum."""
    volumes = []
    with _open(path) as file:
        for subject, data in sorted(file["volumes"].items()):
            attributes = dict(data.attrs)
            if split not in (None, attributes["split"]):
                continue
            try:
                image = data[:]
            except OSError as error:
                raise StudyError(f"{path}: volume {subject} can't be read, the file is damaged ({error})") from None
            if _sha256(image) != attributes["sha256"]:
                raise StudyError(f"{path}: volume {subject} was altered (its checksum doesn't match); delete the file")
            if not np.isfinite(image).all() or not image.any():
                raise StudyError(f"{path}: volume {subject} is all zero, or holds NaN or infinite values")
            volumes.append(Volume(subject, attributes.pop("split"), image, attributes))
    if not volumes:
        raise StudyError(f"{path}: no volume" + (f" in split '{split}'" if split else ""))
    return volumes


def splits(path: Path) -> dict[str, list[str]]:
    """Subjects of each split, in the file's order."""
    found: dict[str, list[str]] = {}
    with _open(path) as file:
        for subject, data in sorted(file["volumes"].items()):
            found.setdefault(str(data.attrs["split"]), []).append(subject)
    return found
