"""Writing the prepared format: volumes checked and normalised, the file whole or not at all."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np

from kdmri_lib.channels import magnitude
from kdmri_lib.datasets.prepared import FORMAT, Volume, image_sha256
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import atomic_write, reserve


def checked_volume(
    subject: str, split: str, image: np.ndarray, attributes: dict, shape: tuple[int, int], domain: str | None = None
) -> Volume:
    """A raw magnitude volume (slices, *shape) divided by its maximum, which becomes its attribute "scale"; or, where
    `domain` is "complex", a complex one divided by its magnitude's. `StudyError` for what is no such volume."""
    found = np.asarray(image).dtype
    kinds, expected, kept = (
        ("c", "complex numbers (domain: complex)", np.complex64) if domain else ("iufb", "real numbers", np.float32)
    )
    if found.kind not in kinds:
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
    left_out: Mapping[str, str] | None = None,
    untried: Mapping[str, Mapping[str, str]] | None = None,
    size: int = 0,
) -> None:
    """Write all volumes, or nothing: the file appears at `path` when it is whole. `StudyError` when a person, or the same
    image, is in two splits.

    Parameters
    ----------
    code : number of the images that the source makes.
    volumes : of each, the attribute "sources" (SHA-256 by file) becomes a data set of its own, since a series of many files
        is more than an attribute holds.
    left_out : the reason by volume that isn't there; `untried` : SHA-256 by file of each of these.
    size : bytes that are needed on the disk; 0 for a file that is small enough to be made in memory.
    """
    checksums: list[tuple[str, str]] = []
    known: dict[str, tuple[str, str]] = {}
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
            for name, sources in (untried or {}).items():
                file[f"sources/{name}"] = json.dumps(sources)
            content = hashlib.sha256("".join(f"{name} {sha}\n" for name, sha in sorted(checksums)).encode()).hexdigest()
            about = {"format": FORMAT, "declaration": declaration, "code": code, "content": content}
            file.attrs.update({**about, "left_out": json.dumps(dict(left_out or {}))})
            file.flush()
            whole = b"" if size else file.id.get_file_image()
        if whole:
            temporary.write_bytes(whole)
