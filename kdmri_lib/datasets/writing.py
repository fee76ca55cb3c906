"""Writing the prepared format: volumes checked and normalised, the file whole or not at all."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np

from kdmri_lib.datasets.prepared import FORMAT, Volume, image_sha256
from kdmri_lib.errors import StudyError
from kdmri_lib.files import whole_file


def checked_volume(subject: str, split: str, image: np.ndarray, attributes: dict, shape: tuple[int, int]) -> Volume:
    """Normalise a raw magnitude volume by its maximum.

    Raises
    ------
    StudyError
        When slices aren't `shape`, a value is NaN, infinite or negative, or the volume is all zero or constant.
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
    if image.min() == image.max():
        raise StudyError(f"volume {subject}: the same value everywhere")
    return Volume(subject, split, image / np.float32(scale), {**attributes, "scale": scale})


def _content(checksums: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256("".join(f"{subject} {sha}\n" for subject, sha in sorted(checksums)).encode()).hexdigest()


def write_prepared(
    path: Path, declaration: str, code: str, volumes: Iterable[Volume], left_out: Mapping[str, str] | None = None
) -> None:
    """Write all volumes, or nothing: the file appears at `path` when it is whole.

    `code` : fingerprint of what made it. `left_out` : reason by volume. A volume's attribute "sources" (checksum by file)
    becomes a data set of its own, since a series of many files is more than an attribute holds.

    Raises
    ------
    StudyError
        When a person, or the same image, is in two splits.
    """
    known: dict[str, tuple[str, str]] = {}  # (volume, split) of each person and of each image's checksum
    with whole_file(path) as temporary:
        checksums = []
        with h5py.File(temporary, "w") as file:
            for volume in volumes:
                checksum = image_sha256(volume.image)
                here = (volume.subject, volume.split)
                for what, key in (
                    ("person", str(volume.attributes.get("person", volume.subject))),
                    ("image", checksum),
                ):
                    before, split = known.setdefault(f"{what} {key}", here)
                    if split != volume.split:
                        raise StudyError(
                            f"{path}: {before} in {split} and {volume.subject} in {volume.split} are the same {what}"
                        )
                attributes = dict(volume.attributes)
                file[f"sources/{volume.subject}"] = json.dumps(attributes.pop("sources", {}))
                name = f"volumes/{volume.subject}"
                data = file.create_dataset(name, data=volume.image, chunks=(1, *volume.image.shape[1:]))
                checksums.append((volume.subject, checksum))
                data.attrs.update({**attributes, "split": volume.split, "sha256": checksum})
            file.attrs.update(
                {
                    "format": FORMAT,
                    "declaration": declaration,
                    "code": code,
                    "content": _content(checksums),
                    "left_out": json.dumps(dict(left_out or {})),
                }
            )
