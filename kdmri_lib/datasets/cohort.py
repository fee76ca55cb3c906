"""Who is in a data set: its volumes, each of a subject, and every subject in one split."""

import csv
import re
from collections import Counter
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
    number = 0
    for split in SPLITS:
        for _ in range(getattr(dataset, split)):
            number += 1
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
    """Yield the volumes of every subject that has a split, each subject in one.

    Parameters
    ----------
    volumes : (volume's name, how to make it) of each subject.
    reserved : subjects that their distributor meant for testing. They alone test, and never train; without any, the
        subjects that follow the validation ones do.

    The first `train` subjects in the order of their names train, the next `validation` ones validate; a file
    `dataset.splits` (CSV with columns subject, split) says otherwise for all.

    Raises
    ------
    StudyError
        When there are fewer subjects than declared, or the file names a subject twice, or one that isn't there.
    """
    if not volumes:
        raise StudyError(
            f"{PROJECT / (dataset.folder or '')}: 0 subjects found, as source {dataset.source} knows them"
            + (f" and pattern '{dataset.pattern}' allows" if dataset.pattern else "")
            + "; data/README.md says how a download is laid out"
        )
    reserved = set(reserved)
    if dataset.splits:
        assigned = _read_splits(PROJECT / dataset.splits, volumes)
    else:
        free = [s for s in in_order(volumes) if s not in reserved]
        testers = in_order(reserved)[: dataset.test] or free[dataset.train + dataset.validation :][: dataset.test]
        training, validating = free[: dataset.train], free[dataset.train :][: dataset.validation]
        assigned = dict.fromkeys(training, "train") | dict.fromkeys(validating, "validation")
        assigned |= dict.fromkeys(testers, "test")
    counts = Counter(assigned.values())
    wanted = {split: getattr(dataset, split) for split in SPLITS}
    if not dataset.splits and any(counts[split] < number for split, number in wanted.items()):
        found = ", ".join(f"{counts[s]} {s}" for s in SPLITS)
        raise StudyError(
            f"{PROJECT / (dataset.folder or '')}: {len(volumes)} subjects found ({found}), expected "
            + ", ".join(f"{number} {split}" for split, number in wanted.items())
        )
    for split in SPLITS:
        for subject in in_order(s for s, part in assigned.items() if part == split):
            for volume, how in volumes[subject]:
                yield Member(split, subject, volume, how)


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
        subject, split = row.get("subject"), row.get("split")
        if split not in SPLITS or not subject:
            raise StudyError(f"{path}, line {number}: expected columns subject, split with {', '.join(SPLITS)}")
        if assigned.get(subject, split) != split:
            raise StudyError(
                f"{path}, line {number}: subject {subject} is in two splits, {assigned[subject]} and {split}"
            )
        if subject not in known:
            raise StudyError(
                f"{path}, line {number}: no subject {subject}; the first ones found: {in_order(known)[:3]}"
            )
        assigned[subject] = split
    return assigned
