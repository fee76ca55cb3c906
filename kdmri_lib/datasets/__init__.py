"""Sources of images, by name, and how a declared data set becomes a prepared file.

A source is a module with

- `cohort(dataset)`, which yields a `Member` a volume: split, subject, the volume's name, and how to make it;
- `make(dataset, **how)`, which returns the raw (slices, H, W) magnitude image and attributes: "kind" and "origin" at least,
  "files" where it read some, "spacing" in mm where it is known;

and, where it reads a download, `count(dataset, **how)`, the slices that `make` will give, without reading images;
`OPTIONS` (the names of its options); and `PUBLISHED`, the paper's numbers of subjects and slices. Everything else —
normalisation, checks, checksums, going on after a stop, the file — is the same for all of them.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from kdmri_lib.datasets.cohort import SPLITS, Member
from kdmri_lib.datasets.overview import write_overview
from kdmri_lib.datasets.prepared import left_out, preparing_code, read_prepared
from kdmri_lib.datasets.writing import checked_volume, join_prepared, write_prepared
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError, Unwritable
from kdmri_lib.files import sha256_file
from kdmri_lib.provenance import preparing_code as current_code

SOURCES = {
    name: f"kdmri_lib.datasets.{name}"
    for name in (
        *("embedded_brain", "cardiac_phantom", "knee_phantom"),
        *("acdc", "mrbrains", "knee_matlab", "fastmri", "calgary_campinas", "kdmri_h5", "nifti_folder", "dicom_folder"),
    )
}


class Preparation(NamedTuple):
    """`made` is False where the file was there, up to date; `left_out`: reason by volume that couldn't be made."""

    made: bool
    left_out: dict[str, str]


def source(name: str):
    """The module of a source; `StudyError` when there is none of that name."""
    if name not in SOURCES:
        raise StudyError(f"unknown source of images '{name}'; known: {', '.join(sorted(SOURCES))}")
    return import_module(SOURCES[name])


def members(dataset: Dataset) -> list[Member]:
    """Every volume of a data set; `StudyError` for an option that its source doesn't know."""
    module = source(dataset.source)
    unknown = set(dataset.options) - getattr(module, "OPTIONS", set())
    if unknown:
        known = ", ".join(sorted(getattr(module, "OPTIONS", set()))) or "none"
        raise StudyError(f"data set '{dataset.name}': no option {', '.join(sorted(unknown))}; known: {known}")
    return list(module.cohort(dataset))


def prepare(dataset: Dataset, path: Path, jobs: int = 1) -> Preparation:
    """Make every volume of `dataset` and write the prepared file at `path`, with its index and contact sheet beside it.

    A volume that can't be made is left out, and said; the others go on. Each is kept in a file of its own until all are
    there, so that a stopped preparation goes on where it was. `jobs` processes, each holding one volume in memory.

    Raises
    ------
    StudyError
        When a split is left without any volume.
    Unwritable
        When the disk is full, say; what was made is kept.
    """
    code = current_code(dataset)
    parts = path.with_name(f".{path.stem}.parts")
    if path.exists() and preparing_code(path) == code:
        if parts.exists():  # killed when all but the overview was done
            write_overview(path)
            shutil.rmtree(parts)
        return Preparation(False, left_out(path))
    cohort = members(dataset)
    parts.mkdir(parents=True, exist_ok=True)
    problems = _make_parts(dataset, cohort, parts, code, jobs)
    made = [member for member in cohort if member.volume not in problems]
    for split in SPLITS:
        if not any(member.split == split for member in made):
            reasons = "; ".join(problems.values()) or "none is in it"
            raise StudyError(f"data set '{dataset.name}': no volume left for split '{split}' ({reasons})")

    join_prepared(path, dataset.model_dump_json(), code, [_part(parts, member) for member in made], problems)
    write_overview(path)
    shutil.rmtree(parts)
    return Preparation(True, problems)


def _part(parts: Path, member: Member) -> Path:
    return parts / f"{member.volume}.h5"


def _make_parts(dataset: Dataset, cohort: list[Member], parts: Path, code: str, jobs: int) -> dict[str, str]:
    """Make what isn't there yet; returns the reason by volume that couldn't be made."""
    problems: dict[str, str] = {}
    waiting = [member for member in cohort if not _is_there(_part(parts, member), code)]
    with tqdm(total=len(cohort), initial=len(cohort) - len(waiting), unit="volume", mininterval=2) as bar:
        bar.set_description(f"preparing {dataset.name}")

        def done(member: Member, result: Callable[[], None]) -> None:
            try:
                result()
            except Unwritable:
                raise  # that says nothing of the volume: leaving it out would make another data set
            except StudyError as error:
                problems[member.volume] = str(error)
                bar.write(f"left out {member.volume}: {error}")
            bar.update()

        if jobs == 1:
            for member in waiting:
                done(member, lambda member=member: _make_part(dataset, member, _part(parts, member), code))
        else:
            with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
                running = {pool.submit(_make_part, dataset, m, _part(parts, m), code): m for m in waiting}
                try:
                    for future in as_completed(running):
                        done(running[future], future.result)
                except Unwritable:
                    pool.shutdown(cancel_futures=True)
                    raise
                except BrokenProcessPool:
                    raise StudyError(
                        f"data set '{dataset.name}': a process that made volumes died (out of memory?); what was made is "
                        "kept, and fewer --jobs need less memory"
                    ) from None
    return problems


def _is_there(part: Path, code: str) -> bool:
    """Whether a part is whole and of this code; the checksums of the files that it came from are in it."""
    try:
        return part.exists() and preparing_code(part) == code and len(list(read_prepared(part))) == 1
    except StudyError:
        return False


def _make_part(dataset: Dataset, member: Member, part: Path, code: str) -> None:
    image, attributes = source(dataset.source).make(dataset, **member.how)
    attributes["sources"] = {file: sha256_file(Path(file)) for file in attributes.pop("files", [])}
    attributes["person"] = member.subject
    volume = checked_volume(member.volume, member.split, image, attributes, dataset.shape)
    write_prepared(part, dataset.model_dump_json(), code, [volume])


class Survey(NamedTuple):
    """What a download holds, by split: subjects, volumes, slices; and the volumes that can't be counted."""

    subjects: dict[str, int]
    volumes: dict[str, int]
    slices: dict[str, int]
    problems: dict[str, str]


def survey(dataset: Dataset) -> Survey:
    """Count subjects, volumes and slices without reading images."""
    module, cohort = source(dataset.source), members(dataset)
    slices, problems = dict.fromkeys(SPLITS, 0), {}
    for member in cohort:
        try:
            slices[member.split] += module.count(dataset, **member.how)
        except StudyError as error:
            problems[member.volume] = str(error)
    return Survey(
        {split: len({m.subject for m in cohort if m.split == split}) for split in SPLITS},
        {split: sum(m.split == split for m in cohort) for split in SPLITS},
        slices,
        problems,
    )
