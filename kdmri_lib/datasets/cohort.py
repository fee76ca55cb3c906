"""Who is in a data set: its volumes, each of a subject, and every subject in one split."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT

SPLITS = ("train", "validation", "test")
NOBODY = " (option subject: folder, of dicom_folder, where headers call everybody so)"


class Member(NamedTuple):
    """One volume: its split, whose it is, its own name, and the arguments that the source makes it from.

    Files among these are called `file`, `files`, or end so: they are watched for changes. Of a download the split is "test"
    where its distributor set the subject apart, else "". `person` is who it is by its file's header, where that says so.
    """

    split: str
    subject: str
    volume: str
    how: dict
    person: str = ""


def in_order(names: Iterable, key: Callable = str) -> list:
    """Names sorted with their numbers as numbers, patient2 before patient10; or what `key` gives the names of."""

    def parts(item) -> list[str | int]:  # texts and numbers take turns
        return [int(part) if n % 2 else part for n, part in enumerate(re.split(r"(\d+)", str(key(item))))]

    return sorted(names, key=parts)


def split_subjects(dataset: Dataset, found: Iterable[Member]) -> list[Member]:
    """The volumes of every subject that has a split, of those found in a download. Subjects that files' headers call the
    same person are one, of the name of the first.

    The first `train` subjects in the order of their names train, the next `validation` ones validate, the next ones test;
    where their distributor set some apart, these alone test. A file `dataset.splits` (CSV with columns subject, split) says
    otherwise for all. `StudyError` when there are fewer subjects than declared, or the file names a subject twice, or one
    that isn't there, or has a person in two splits.
    """
    where = PROJECT / (dataset.folder or "")
    volumes: dict[str, list[Member]] = {}
    found = list(found)
    one, said = _one_person(found) if not dataset.splits else ({}, "")
    for member in found:
        subject = one.get(member.subject, member.subject)
        volumes.setdefault(subject, []).append(member._replace(subject=subject))
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
        reserved = [s for s in in_order(volumes) if any(member.split for member in volumes[s])]
        free = [s for s in in_order(volumes) if s not in reserved]
        testing = reserved or free[dataset.train + dataset.validation :]
        chosen = {"train": free, "validation": free[dataset.train :], "test": testing}
        chosen = {split: subjects[: getattr(dataset, split)] for split, subjects in chosen.items()}
        there = ", ".join(f"{len(subjects)} {split}" for split, subjects in chosen.items())
        wanted = ", ".join(f"{getattr(dataset, split)} {split}" for split in SPLITS)
        if there != wanted:
            raise StudyError(f"{where}: {len(volumes)} subjects found ({there}), expected {wanted}{said}")
    members = [m._replace(split=split) for split, subjects in chosen.items() for s in subjects for m in volumes[s]]
    first: dict[str, Member] = {}
    for member in members:
        if member.person and (other := first.setdefault(member.person, member)).split != member.split:
            there = f"{other.volume} in {other.split} and {member.volume} in {member.split}"
            raise StudyError(f"{where}: {there} are the same person by their headers, {member.person}{NOBODY}")
    return members


def _one_person(found: list[Member]) -> tuple[dict[str, str], str]:
    """The name of the first subject, by subject, of those that share a person; and what is to be said of it."""
    found = in_order(found, key=lambda member: member.subject)
    first, of_person = {member.subject: member.subject for member in found}, {}
    for member in filter(lambda member: member.person, found):
        both = {first[of_person.setdefault(member.person, member.subject)], first[member.subject]}
        if len(both) == 2:
            kept = next(subject for subject in first if subject in both)
            first |= {subject: kept for subject, of in first.items() if of in both}
    others = [f"{subject} is {of}" for subject, of in first.items() if of != subject]
    return first, f"; by their headers {', '.join(others[:3])}{NOBODY}" if others else ""


def _read_splits(path: Path, known: Mapping) -> dict[str, str]:
    """Split by subject, of a table as spreadsheets save it: with a byte-order mark or none, commas, semicolons or tabs."""
    assigned: dict[str, str] = {}
    try:
        # Whatever the locale; Excel writes UTF-8 with a mark in front, and empty rows as commas alone.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        between = next((mark for mark in ",;\t" if lines and mark in lines[0]), ",")
        for number, row in enumerate(csv.DictReader(lines, delimiter=between), 2):
            row = {str(name).strip(): value.strip() for name, value in row.items() if isinstance(value, str)}
            if not any(row.values()):
                continue
            subject, split, where = row.get("subject"), row.get("split"), f"{path}, line {number}"
            if split not in SPLITS or not subject:
                raise StudyError(f"{where}: expected columns subject, split with {', '.join(SPLITS)}")
            if assigned.setdefault(subject, split) != split:
                raise StudyError(f"{where}: subject {subject} is in two splits, {assigned[subject]} and {split}")
            if subject not in known:
                raise StudyError(f"{where}: no subject {subject}; the first ones found: {in_order(known)[:3]}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{path}: can't be read ({error})") from None
    return assigned
