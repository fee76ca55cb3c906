"""Folders as people have them: what systems, unpackers and other programs do to a download (`HARMLESS`, each given its
folder, a place outside and a source of chance), and what damage does to a file (`DAMAGE`)."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np

from kdmri_lib.datasets.folders import ends_in
from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.datasets.preparing import prepare, survey
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

IMAGES = (".nii.gz", ".nii", ".h5", ".npy", ".mat", ".dcm")


def some(folder: Path, chance: random.Random, endings=IMAGES) -> list[Path]:
    """Some files that look like images, through links too; links to nothing aren't."""
    found = [Path(place) / name for place, _, names in os.walk(folder, followlinks=True) for name in names]
    found = sorted(file for file in found if file.is_file() and ends_in(file.name, endings))
    return chance.sample(found, chance.randint(1, len(found))) if found else []


def capitals(folder: Path, outside: Path, chance: random.Random) -> None:
    """As scanners and old file systems name files."""
    for file in some(folder, chance):
        ending = next(ending for ending in IMAGES if file.name.lower().endswith(ending))
        file.rename(file.with_name(file.name[: -len(ending)] + ending.upper()))


def in_folders(folder: Path, outside: Path, chance: random.Random) -> None:
    """As an unpacker leaves it: a folder named as the file, with the file in it, under another name."""
    for file in some(folder, chance, (".nii.gz",)):
        place = file.with_name(file.name[: -len(".gz")])
        place.mkdir()
        file.rename(place / f"unpacked_{file.name}")


def label_maps(folder: Path, outside: Path, chance: random.Random) -> None:
    labels = nibabel.Nifti1Image(np.eye(5, 6)[..., None].repeat(3, 2).astype(np.uint8), np.eye(4))
    (folder / "derivatives" / "program").mkdir(parents=True, exist_ok=True)
    for file in some(folder, chance, (".nii", ".nii.gz")):
        name = file.name.split(".")[0]
        other = chance.choice([f"{name}_seg.nii.gz", f"{name}_brain_mask.nii", f"label_{name}.nii"])
        nibabel.save(labels, file.with_name(other))
        nibabel.save(labels, folder / "derivatives" / "program" / f"{name}.nii.gz")


def links(folder: Path, outside: Path, chance: random.Random) -> None:
    """Of files, and of folders."""
    for file in some(folder, chance):
        place = chance.choice([file, file.parent])
        if place not in (folder, *folder.parents) and not any(p.is_symlink() for p in (place, *place.parents)):
            target = outside / str(len(list(outside.glob("*")))) / place.name
            target.parent.mkdir(parents=True)
            shutil.move(place, target)
            place.symlink_to(target)


def others(folder: Path, outside: Path, chance: random.Random) -> None:
    """Texts; what macOS leaves on drives that aren't its own, and in archives; copies in the trash, or of a version
    control."""
    hidden = ("__MACOSX", ".Trash-0", ".git", "@eaDir")
    for number, file in enumerate(some(folder, chance)):
        for name in ("README.txt", "scan.json", "notes.nii.txt", "half.nii.gz.part", ".DS_Store", f"._{file.name}"):
            (file.parent / name).write_text("not an image")
        copy = folder / hidden[number % len(hidden)] / file.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)


def circles(folder: Path, outside: Path, chance: random.Random) -> None:
    for place in {file.parent for file in some(folder, chance)}:
        (place / "up").symlink_to(folder)
        os.mkfifo(place / "pipe.nii.gz")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def link_to_nothing(file: Path) -> None:
    file.unlink()
    file.symlink_to("/nowhere/at/all")


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """A file or a folder that nobody may read, in the block; nor may root, who may read everything else."""
    mode, user = place.stat().st_mode, os.geteuid()
    place.chmod(0)
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)
        place.chmod(mode)


HARMLESS: list[Callable[[Path, Path, random.Random], None]] = [capitals, in_folders, label_maps, links, others, circles]
DAMAGE: list[Callable[[Path], None]] = [cut, emptied, link_to_nothing]


def told(function):
    """What a function returns, and the message of its error."""
    try:
        return function(), ""
    except StudyError as error:
        return None, str(error)


def agreed(dataset: Dataset, path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], str]:
    """What `prepare` makes of a download, after having found that `survey` promised it: images and reasons by volume, and
    the error where both end with the same."""
    found, error = told(lambda: survey(dataset))
    error = error or found.stopped
    quick, refused = told(lambda: survey(dataset, headers=True))
    made, other = told(lambda: prepare(dataset, path))
    assert error.split(": ", 1)[-1] == other.split(": ", 1)[-1]  # one begins with the data set, one with the file
    assert other or not (refused or quick.stopped), f"headers alone are refused: {refused or quick.stopped}"
    if made is None:
        return {}, {}, other
    volumes = list(read_prepared(path))
    assert found.problems == made.left_out
    for split in found.slices:
        of_split = [len(volume.image) for volume in volumes if volume.split == split]
        assert found.slices[split] == sum(of_split) and found.volumes[split] >= len(of_split) > 0
        assert found.problems or quick.slices[split] == found.slices[split]
    return {volume.subject: volume.image for volume in volumes}, made.left_out, ""
