"""Writing the prepared format: volumes checked and normalised, the file whole or not at all."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from kdmri_lib.channels import magnitude
from kdmri_lib.datasets.prepared import FORMAT, Volume, image_sha256
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import atomic_write, reserve


def checked_volume(
    subject: str,
    split: str,
    image: np.ndarray,
    attributes: dict,
    shape: tuple[int, int],
    domain: str | None = None,
) -> Volume:
    """A raw magnitude volume (slices, *shape) divided by its maximum, which becomes its attribute "scale"; or, where
    `domain` is "complex", a complex one divided by its magnitude's.

    Raises
    ------
    StudyError
        When there are no slices, or they aren't `shape`; a value is NaN, infinite or negative; values are complex where
        magnitudes are expected, or real where complex ones are; or the volume is all zero or constant.
    """
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
    if not np.isfinite(image).all():
        raise StudyError(f"volume {subject}: {np.count_nonzero(~np.isfinite(image))} values are NaN or infinite")
    size = magnitude(image)
    if size.min() < 0:
        raise StudyError(f"volume {subject}: negative values (down to {size.min():.3g}); expected magnitude images")
    scale = float(size.max())
    if scale == 0:
        raise StudyError(f"volume {subject}: all zero")
    if (image == image.flat[0]).all():
        raise StudyError(f"volume {subject}: the same value everywhere")
    return Volume(subject, split, image / np.float32(scale), {**attributes, "scale": scale})


def kept_apart(known: dict[str, tuple[str, str]], where: str, volume: str, split: str, person: str, checksum: str):
    """Note a volume's person and its image's checksum in `known`: the first volume and its split by each.

    Raises
    ------
    StudyError
        When the same person, or the same image, was in another split; it begins with `where`.
    """
    for what, key in (("person", person), ("image", checksum)):
        before, other = known.setdefault(f"{what} {key}", (volume, split))
        if other != split:
            raise StudyError(f"{where}: {before} in {other} and {volume} in {split} are the same {what}")


def _content(checksums: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{subject} {sha}\n" for subject, sha in sorted(checksums)).encode()).hexdigest()


def write_prepared(path: Path, declaration: str, code: str, volumes: Iterable[Volume]) -> None:
    """Write all volumes, or nothing: the file appears at `path` when it is whole.

    `code` : fingerprint of what made it. A volume's attribute "sources" (checksum by file) becomes a data set of its own,
    since a series of many files is more than an attribute holds.

    Raises
    ------
    StudyError
        When a person, or the same image, is in two splits.
    """
    # In memory first: HDF5 (2.0) crashes later on when a file that it writes doesn't fit on the disk.
    with atomic_write(path) as temporary, h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        with _completed(file, path, declaration, code, {}) as check:
            for volume in volumes:
                attributes = dict(volume.attributes)
                file[f"sources/{volume.subject}"] = json.dumps(attributes.pop("sources", {}))
                name = f"volumes/{volume.subject}"
                data = file.create_dataset(name, data=volume.image, chunks=(1, *volume.image.shape[1:]))
                mean = round(float(magnitude(volume.image).mean()), 6)
                data.attrs.update(
                    {**attributes, "split": volume.split, "mean": mean, "sha256": image_sha256(volume.image)}
                )
                check(data)
        file.flush()
        temporary.write_bytes(file.id.get_file_image())


def join_prepared(
    path: Path,
    declaration: str,
    code: str,
    parts: Iterable[Path],
    left_out: Mapping[str, str],
    untried: Mapping[str, Mapping[str, str]],
) -> None:
    """One prepared file of several, as `write_prepared` would write it; images are copied as they are stored.

    `left_out` : the reason by volume that isn't there; `untried` : checksum by file of each of these.
    """
    parts = list(parts)
    with atomic_write(path) as temporary:
        # Found now, a lack of space is a message; found by HDF5 it is a crash.
        reserve(temporary, sum(part.stat().st_size for part in parts))
        with h5py.File(temporary, "w") as file, _completed(file, path, declaration, code, left_out) as check:
            _copy(parts, file, check)
            for volume, checksums in untried.items():
                file[f"sources/{volume}"] = json.dumps(checksums)


def _copy(parts: list[Path], file: h5py.File, check: Callable[[h5py.Dataset], None]) -> None:
    """Copy the volumes of all parts into one file, images as they are stored."""
    for group in ("volumes", "sources"):
        file.create_group(group)
    for part in parts:
        with h5py.File(part, "r") as other:
            for group in ("volumes", "sources"):
                for name in other[group]:
                    other.copy(f"{group}/{name}", file[group])
            for name in other["volumes"]:
                check(file["volumes"][name])


@contextmanager
def _completed(file: h5py.File, path: Path, declaration: str, code: str, left_out: Mapping[str, str]):
    """Yield what is to be called with each volume written; complete the file when the block ends well."""
    checksums: list[tuple[str, str]] = []
    known: dict[str, tuple[str, str]] = {}

    def check(data: h5py.Dataset) -> None:
        name, split, checksum = data.name.rsplit("/", 1)[1], str(data.attrs["split"]), str(data.attrs["sha256"])
        kept_apart(known, str(path), name, split, str(data.attrs.get("person", name)), checksum)
        checksums.append((name, checksum))

    yield check
    about = {"format": FORMAT, "declaration": declaration, "code": code, "content": _content(checksums)}
    file.attrs.update({**about, "left_out": json.dumps(dict(left_out))})
