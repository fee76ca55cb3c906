"""Who is in a data set: its volumes, each of a subject, and every subject in one split."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT

SPLITS = ("train", "validation", "test")


class Member(NamedTuple):
    """One volume: its split, whose it is, its own name, and the arguments that the source makes it from.

    Files among these are called `file`, `files`, or end so: they are watched for changes.
    """

    split: str
    subject: str
    volume: str
    how: dict


def numbered_subjects(dataset: Dataset, prefix: str) -> Iterator[Member]:
    """Generated subjects, numbered from 1 through the splits, a volume per subject, made by its `number`."""
    if dataset.slices_per_volume is None:
        raise StudyError(f"data set '{dataset.name}': source {dataset.source} needs slices_per_volume")
    counted = (split for split in SPLITS for _ in range(getattr(dataset, split)))
    for number, split in enumerate(counted, 1):
        yield Member(split, f"{prefix}{number:03d}", f"{prefix}{number:03d}", {"number": number})


def folder_of(dataset: Dataset) -> Path:
    """The absolute folder of a download, relative ones below the project; `StudyError` when none is named or there."""
    if not dataset.folder:
        raise StudyError(f"data set '{dataset.name}': source {dataset.source} needs folder")
    folder = PROJECT / dataset.folder
    if not folder.is_dir():
        raise StudyError(f"data set '{dataset.name}': no folder {folder}; data/README.md says how to get the images")
    return folder


def in_order(names: Iterable, key: Callable = str) -> list:
    """Names sorted with their numbers as numbers, patient2 before patient10; or what `key` gives the names of."""

    def parts(item) -> list[str | int]:
        # Texts and numbers take turns.
        return [int(part) if n % 2 else part for n, part in enumerate(re.split(r"(\d+)", str(key(item))))]

    return sorted(names, key=parts)


def split_subjects(
    dataset: Dataset, volumes: Mapping[str, list[tuple[str, dict]]], reserved: Iterable[str] = ()
) -> Iterator[Member]:
    """Yield the volumes, (name, how to make it) of each subject, of every subject that has a split; each has one.

    The first `train` subjects in the order of their names train, the next `validation` ones validate, the next ones test.
    Where their distributor `reserved` some for testing, these alone test, and never train. A file `dataset.splits` (CSV
    with columns subject, split) says otherwise for all. `StudyError` when there are fewer subjects than declared, or the
    file names a subject twice, or one that isn't there.
    """
    where = PROJECT / (dataset.folder or "")
    if not volumes:
        allowed = f" and pattern '{dataset.pattern}' allows" if dataset.pattern else ""
        raise StudyError(
            f"{where}: 0 subjects found, as source {dataset.source} knows them{allowed}; data/README.md says how a "
            "download is laid out"
        )
    if dataset.splits:
        assigned = _read_splits(PROJECT / dataset.splits, volumes)
        chosen = {split: in_order(s for s, of in assigned.items() if of == split) for split in SPLITS}
    else:
        reserved = set(reserved)
        free = [subject for subject in in_order(volumes) if subject not in reserved]
        testing = in_order(reserved) or free[dataset.train + dataset.validation :]
        chosen = {"train": free, "validation": free[dataset.train :], "test": testing}
        chosen = {split: subjects[: getattr(dataset, split)] for split, subjects in chosen.items()}
        if any(len(subjects) < getattr(dataset, split) for split, subjects in chosen.items()):
            found = ", ".join(f"{len(subjects)} {split}" for split, subjects in chosen.items())
            wanted = ", ".join(f"{getattr(dataset, split)} {split}" for split in SPLITS)
            raise StudyError(f"{where}: {len(volumes)} subjects found ({found}), expected {wanted}")
    for split, subjects in chosen.items():
        yield from (Member(split, subject, *volume) for subject in subjects for volume in volumes[subject])


def _read_splits(path: Path, known: Mapping) -> dict[str, str]:
    """Split by subject, of a table as spreadsheets save it: with a byte-order mark or none, commas, semicolons or tabs."""
    assigned: dict[str, str] = {}
    try:
        # Whatever the locale; Excel writes UTF-8 with a mark in front.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        between = next((mark for mark in ",;\t" if lines and mark in lines[0]), ",")
        rows = [
            {str(name).strip(): value.strip() for name, value in row.items() if isinstance(value, str)}
            for row in csv.DictReader(lines, delimiter=between)
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{path}: can't be read ({error})") from None
    for number, row in enumerate(rows, 2):
        if not any(row.values()):  # Excel's empty rows, which are commas alone
            continue
        subject, split, where = row.get("subject"), row.get("split"), f"{path}, line {number}"
        if split not in SPLITS or not subject:
            raise StudyError(f"{where}: expected columns subject, split with {', '.join(SPLITS)}")
        if assigned.setdefault(subject, split) != split:
            raise StudyError(f"{where}: subject {subject} is in two splits, {assigned[subject]} and {split}")
        if subject not in known:
            raise StudyError(f"{where}: no subject {subject}; the first ones found: {in_order(known)[:3]}")
    return assigned
