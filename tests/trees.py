"""Folders as people have them: what systems, unpackers and other programs do to a download, and what damage does.

Each change takes the download's folder, a place outside it and a source of chance. Those in `HARMLESS` leave what is in the
download as it was; those in `DAMAGE` spoil one file.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from kdmri_lib.datasets.folders import ends_in
from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.datasets.preparing import prepare, survey
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

IMAGES = (".nii", ".nii.gz", ".h5", ".npy", ".mat", ".dcm")


def images(folder: Path) -> list[Path]:
    """Files that look like images, through links too; links to nothing aren't."""
    found = [Path(place) / name for place, _, names in os.walk(folder, followlinks=True) for name in names]
    return sorted(file for file in found if file.is_file() and ends_in(file.name, IMAGES))


def some(items: list, chance: random.Random) -> list:
    return chance.sample(items, chance.randint(1, len(items))) if items else []


def capitals(folder: Path, outside: Path, chance: random.Random) -> None:
    """As scanners and old file systems name files."""
    for file in some(images(folder), chance):
        ending = next(e for e in sorted(IMAGES, key=len, reverse=True) if file.name.endswith(e))
        file.rename(file.with_name(file.name.removesuffix(ending) + ending.upper()))


def in_folders(folder: Path, outside: Path, chance: random.Random) -> None:
    """As an unpacker leaves it: a folder named as the file, with the file in it, under another name."""
    for file in some([file for file in images(folder) if ends_in(file.name, (".nii.gz",))], chance):
        place = file.with_name(file.name[: -len(".gz")])
        place.mkdir()
        file.rename(place / f"unpacked_{file.name}")


def label_maps(folder: Path, outside: Path, chance: random.Random) -> None:
    for file in some([file for file in images(folder) if ends_in(file.name, (".nii", ".nii.gz"))], chance):
        labels = nibabel.Nifti1Image(np.eye(5, 6)[..., None].repeat(3, 2).astype(np.uint8), np.eye(4))
        name = file.name.split(".")[0]
        nibabel.save(
            labels, file.with_name(chance.choice([f"{name}_seg.nii.gz", f"{name}_brain_mask.nii", f"label_{name}.nii"]))
        )
        other = folder / "derivatives" / "program" / f"{name}.nii.gz"
        other.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(labels, other)


def linked_files(folder: Path, outside: Path, chance: random.Random) -> None:
    for number, file in enumerate(some(images(folder), chance)):
        target = outside / "files" / f"{number}_{file.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, target)
        file.symlink_to(target)


def linked_folders(folder: Path, outside: Path, chance: random.Random) -> None:
    for number, place in enumerate(some(sorted({file.parent for file in images(folder)} - {folder}), chance)):
        if place.exists() and not place.is_symlink():
            shutil.move(place, outside / f"{number}_{place.name}")
            place.symlink_to(outside / f"{number}_{place.name}")


def texts(folder: Path, outside: Path, chance: random.Random) -> None:
    for place in some(sorted({folder, *(file.parent for file in images(folder))}), chance):
        for name in ("README.txt", "scan.json", "notes.nii.txt", "half.nii.gz.part"):
            (place / name).write_text("not an image")


def side_cars(folder: Path, outside: Path, chance: random.Random) -> None:
    """As macOS leaves them on drives that aren't its own, and in archives."""
    for file in some(images(folder), chance):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(200))
        (file.parent / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


def of_systems(folder: Path, outside: Path, chance: random.Random) -> None:
    """Copies in the trash, beside an archive's content, and of a version control."""
    for name, file in zip(("__MACOSX", ".Trash-0", ".git", "@eaDir"), some(images(folder), chance), strict=False):
        place = folder / name / file.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)


def circles(folder: Path, outside: Path, chance: random.Random) -> None:
    for place in some(sorted({file.parent for file in images(folder)}), chance):
        (place / "up").symlink_to(folder)
        os.mkfifo(place / "pipe.nii.gz")


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def link_to_nothing(file: Path) -> None:
    file.unlink()
    file.symlink_to("/nowhere/at/all")


HARMLESS: list[Callable[[Path, Path, random.Random], None]] = [
    capitals,
    in_folders,
    label_maps,
    linked_files,
    linked_folders,
    texts,
    side_cars,
    of_systems,
    circles,
]
DAMAGE: list[Callable[[Path], None]] = [cut, emptied, link_to_nothing]


def agreed(dataset: Dataset, path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], str]:
    """What `prepare` makes of a download, after having found that `survey` promised it: images and reasons by volume, and
    the error where both end with the same."""

    def told(function):
        try:
            return function(), ""
        except StudyError as error:
            return None, str(error)

    found, error = told(lambda: survey(dataset))
    error = error or found.stopped
    quick, refused = told(lambda: survey(dataset, headers=True))
    made, other = told(lambda: prepare(dataset, path, 1))
    assert error.split(": ", 1)[-1] == other.split(": ", 1)[-1]  # one begins with the data set, one with the file
    assert other or not (refused or quick.stopped), f"headers alone are refused: {refused or quick.stopped}"
    if made is None:
        return {}, {}, other
    volumes = {volume.subject: volume for volume in read_prepared(path)}
    assert found.problems == made.left_out
    for split in found.slices:
        of_split = [volume for volume in volumes.values() if volume.split == split]
        assert found.slices[split] == sum(len(volume.image) for volume in of_split)
        assert found.volumes[split] >= len(of_split) > 0
    return {name: volume.image for name, volume in volumes.items()}, made.left_out, ""
