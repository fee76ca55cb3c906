"""From a declared data set to its prepared file.

A source is a module of `kdmri_lib.datasets.sources` or `kdmri_lib.datasets.phantoms` (see `Source`); a further one is one
more file there. What all of them have in common is done here: normalisation, checks, checksums, going on after a stop.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NamedTuple, Protocol

import numpy as np
from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from kdmri_lib.datasets import phantoms, prepared, sources
from kdmri_lib.datasets.cohort import SPLITS, Member
from kdmri_lib.datasets.folders import label_maps
from kdmri_lib.datasets.prepared import Volume, image_sha256, left_out, preparing_code, source_checksums
from kdmri_lib.datasets.reading import reading
from kdmri_lib.datasets.writing import checked_volume, kept_apart, write_prepared
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError, UnwritableError
from kdmri_lib.storage import PROJECT, digest_json, read_json, sha256_file, write_json


class Source(Protocol):
    """What the module of a source holds; one that generates its images needs `cohort` and `make` alone."""

    IMAGES: int = 1
    """Raised by hand when the source's images change: files that were prepared before are made again."""

    OPTIONS: Mapping[str, Any] = {}
    """The options that it takes, by name, and their types."""

    ENDINGS: tuple[str, ...] = ()
    """How names of files end that it reads, in small letters; none where any may be one."""

    def cohort(self, dataset: Dataset) -> Iterator[Member]:
        """Every volume that there is."""

    def count(self, dataset: Dataset, **how) -> int:
        """How many slices `make` will give at most, without reading images."""

    def make(self, dataset: Dataset, **how) -> tuple[np.ndarray, dict]:
        """The raw image (slices, H, W), in any unit, a magnitude or, where `dataset.domain` says so, complex; and
        attributes: "kind" and "origin" at least, "spacing" (slice, row, column) in mm where it is known."""


class Preparation(NamedTuple):
    """`made` is False where the file was there, up to date; `left_out`: reason by volume that couldn't be made."""

    made: bool
    left_out: dict[str, str]


class Made(NamedTuple):
    """What is known of a volume: the reason where it couldn't be made; its slices, its image's SHA-256, the share of the
    signal below 0; where `prepare` keeps it, and of each of its files the `_state` and the SHA-256."""

    problem: str = ""
    slices: int = 0
    image: str = ""
    below_zero: float = 0.0
    part: Path = Path()
    files: Mapping[str, tuple[str, str]] = {}


class Survey(NamedTuple):
    """What a download holds, by split: subjects, volumes, slices (of the volumes that can be read); the reason by volume
    that can't; the share of the signal below 0 by volume that has such; what was passed over as label maps; and what would
    stop `prepare` altogether, empty where nothing would."""

    subjects: dict[str, int]
    volumes: dict[str, int]
    slices: dict[str, int]
    problems: dict[str, str]
    below_zero: dict[str, float]
    label_maps: list[str]
    stopped: str


def source(name: str) -> Source:
    """The module of a source; `StudyError` when there is none of that name, or it needs a package that isn't there."""
    places = {m.name: package for package in (sources, phantoms) for m in iter_modules(package.__path__)}
    if name not in places:
        raise StudyError(f"unknown source of images '{name}'; known: {', '.join(sorted(places))}")
    try:
        return import_module(f"{places[name].__name__}.{name}")
    except ModuleNotFoundError as error:
        raise StudyError(f"source '{name}' needs the package {error.name}, which isn't installed") from None


def images_number(dataset: Dataset) -> int:
    """`IMAGES` of the data set's source."""
    return getattr(source(dataset.source), "IMAGES", 1)


def members(dataset: Dataset) -> list[Member]:
    """Every volume of a data set; `StudyError` for an option that its source can't take, or two volumes of one name."""
    module = source(dataset.source)
    known, where = getattr(module, "OPTIONS", {}), f"data set '{dataset.name}'"
    for option, value in sorted(dataset.options.items()):
        if option not in known:
            raise StudyError(f"{where}: no option {option}; known: {', '.join(sorted(known)) or 'none'}")
        try:
            TypeAdapter(known[option]).validate_python(value, strict=True)
        except ValidationError as error:
            raise StudyError(f"{where}, option '{option}': {error.errors()[0]['msg']}, found {value!r}") from None
    cohort = list(module.cohort(dataset))
    for name, times in Counter(member.volume for member in cohort).items():
        if times > 1:
            files = ", ".join(file for member in cohort if member.volume == name for file in _files(member)[:1])
            raise StudyError(f"{where}: {times} volumes are called {name} ({files})")
    return cohort


def prepare(dataset: Dataset, path: Path, code: int, jobs: int = 1, bar: type[tqdm] = tqdm) -> Preparation:
    """Make every volume of `dataset` and write the prepared file at `path`.

    A volume that can't be made is left out, and said; the others go on. Each is kept in a prepared file of its own until
    all are there, so that a stopped preparation goes on where it was. Nothing is done where the file is there, of the same
    `code` and of the files that there are (`changed_sources`). `StudyError` when a split is left without any volume, or a
    person or an image is in two; `UnwritableError` when the disk is full, say, and what was made is kept.

    `code` : `images_number(dataset)`; `jobs` : processes, each holding one volume in memory; `bar` : shows how it comes
    along.
    """
    parts = path.with_name(f".{path.stem}.parts")
    if path.exists() and preparing_code(path) == code and not changed_sources(dataset, path):
        shutil.rmtree(parts, ignore_errors=True)  # of one that was killed when all else was done
        return Preparation(False, left_out(path))
    cohort, made = members(dataset), {}
    parts.mkdir(parents=True, exist_ok=True)
    with bar(total=len(cohort), unit="volume", mininterval=2) as shown:
        shown.set_description(f"preparing {dataset.name}")
        for member, found in _each(dataset, cohort, partial(_make_part, parts=parts, code=code), jobs):
            made[member.volume] = found
            shown.update()
            if found.problem:
                shown.write(f"left out {member.volume}: {found.problem}")
    there = [made[member.volume].part for member in _left(dataset, cohort, made)]
    problems = {volume: found.problem for volume, found in made.items() if found.problem}
    untried = {volume: _named(dataset, made[volume].files) for volume in problems}
    size = sum(part.stat().st_size for part in there)
    write_prepared(path, dataset.model_dump_json(), code, map(_kept, there), problems, untried, size)
    _remember(path, dict(file for found in made.values() for file in found.files.values()))
    shutil.rmtree(parts)
    return Preparation(True, problems)


def survey(dataset: Dataset, jobs: int = 1, headers: bool = False) -> Survey:
    """What `prepare` would make of a download: each volume is made as it does it, and thrown away.

    `headers` : only headers are read, so that it takes seconds: slices are counted at most, and what is wrong with values
    isn't seen.
    """
    cohort, made, known = members(dataset), {}, {}
    with tqdm(total=len(cohort), unit="volume", mininterval=2, disable=headers, leave=False) as bar:
        bar.set_description(f"checking {dataset.name}")
        for member, found in _each(dataset, cohort, partial(_look, headers=headers), 1 if headers else jobs):
            made[member.volume] = found
            bar.update()
    try:
        for split, person, volume, _ in _left(dataset, cohort, made):
            kept_apart(known, f"data set '{dataset.name}'", volume, split, person, made[volume].image or volume)
    except StudyError as error:
        return _survey(dataset, cohort, made, str(error))
    return _survey(dataset, cohort, made)


def survey_prepared(dataset: Dataset, path: Path, code: int) -> Survey | None:
    """The same of a download that was prepared at `path`, by what was found then; None when it would be prepared again."""
    if not path.exists() or preparing_code(path) != code or changed_sources(dataset, path):
        return None
    made = {volume: Made(reason) for volume, reason in left_out(path).items()}
    with prepared.opened(path) as file:
        for volume, data in file["volumes"].items():
            made[volume] = Made("", len(data), below_zero=float(data.attrs.get("below_zero", 0)))
    return _survey(dataset, members(dataset), made)


def _survey(dataset: Dataset, cohort: list[Member], made: Mapping[str, Made], stopped: str = "") -> Survey:
    of = {split: [member for member in cohort if member.split == split] for split in SPLITS}
    endings = getattr(source(dataset.source), "ENDINGS", ())
    passed_over = label_maps(PROJECT / dataset.folder, endings, dataset.pattern) if dataset.folder and endings else []
    return Survey(
        {split: len({member.subject for member in of[split]}) for split in SPLITS},
        {split: len(of[split]) for split in SPLITS},
        {split: sum(made[member.volume].slices for member in of[split]) for split in SPLITS},
        {volume: found.problem for volume, found in made.items() if found.problem},
        {volume: found.below_zero for volume, found in made.items() if found.below_zero},
        [str(place) for place in passed_over],
        stopped,
    )


def changed_sources(dataset: Dataset, path: Path) -> str:
    """How the files that the prepared file at `path` was made from have changed since; empty where they haven't.

    Files are compared by their SHA-256. A file of the same size and times isn't read again: what was found then is kept
    beside the prepared file, and may be deleted. Files of volumes that were left out count as any other. `StudyError` when
    a file can't be read any more, or the download isn't as declared.
    """
    folder = PROJECT / (dataset.folder or "")
    # A download may be deleted when it is prepared.
    if not folder.is_dir():
        return ""
    cohort, checksums = {member.volume: member for member in members(dataset)}, source_checksums(path)
    if added := sorted(cohort.keys() - checksums.keys()):
        return f"{added[0]} is new"
    if gone := sorted(checksums.keys() - cohort.keys()):
        return f"{gone[0]} is gone"
    before = {volume: split for split, volumes in prepared.splits(path).items() for volume in volumes}
    if moved := [volume for volume, split in before.items() if cohort[volume].split != split]:
        return f"{moved[0]} is in split {cohort[moved[0]].split} now"
    known, seen = _known(path), {}
    for volume, member in cohort.items():
        if added := sorted(file for file in _files(member) if _name(dataset, file) not in checksums[volume]):
            return f"{added[0]} is new"
        for file, checksum in ((str(folder / name), checksum) for name, checksum in checksums[volume].items()):
            state = _state(file)
            seen[state] = found = known.get(state) or _checksum(file)
            if found != checksum and state and not found:
                raise StudyError(f"{file}: can't be read any more, and so isn't known to be what was prepared")
            if found != checksum:
                return f"{file} was replaced" if state else f"{file} is gone"
    _remember(path, seen)
    return ""


def _left(dataset: Dataset, cohort: list[Member], made: Mapping[str, Made]) -> list[Member]:
    """The members without a problem; `StudyError` when a split has none of them."""
    for split in SPLITS:
        reasons = [made[member.volume].problem for member in cohort if member.split == split]
        if all(reasons):
            more = [f"and {len(reasons) - 3} more"] if len(reasons) > 3 else []
            said = "; ".join(reasons[:3] + more) or "none is in it"
            raise StudyError(f"data set '{dataset.name}': no volume left for split '{split}' ({said})")
    return [member for member in cohort if not made[member.volume].problem]


def _known(path: Path) -> dict[str, str]:
    """SHA-256 by state of the files that `path` was made from, as far as they are known."""
    try:
        found = read_json(path.with_name(f".{path.stem}.files.json"))
    except StudyError:  # a help only: without it files are read
        return {}
    return found if isinstance(found, dict) else {}


def _remember(path: Path, states: dict[str, str]) -> None:
    states = {state: checksum for state, checksum in states.items() if checksum}
    if states and states != _known(path):
        with suppress(UnwritableError):
            write_json(path.with_name(f".{path.stem}.files.json"), states)


def _files(member: Member) -> list[str]:
    """The files that a volume is made from."""
    named = (value for key, value in member.how.items() if key.endswith(("file", "files")))
    return [file for value in named for file in ([value] if isinstance(value, str) else value)]


def _state(file: str) -> str:
    """A file's name, size, and when content and entry last changed, in ns; empty where there is no such file."""
    try:
        found = Path(file).stat()
    except OSError:
        return ""
    return f"{file} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _checksum(file: str) -> str:
    """SHA-256 of a file; empty where it isn't there, or may not be read."""
    with suppress(StudyError), reading(Path(file), "file"):
        return sha256_file(Path(file))
    return ""


def _name(dataset: Dataset, file: str) -> str:
    """What a prepared file calls a file: its path below the download, or the project, so that both may be moved."""
    folder = PROJECT / (dataset.folder or "")
    return str(Path(file).relative_to(folder)) if Path(file).is_relative_to(folder) else file


def _named(dataset: Dataset, files: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    return {_name(dataset, file): checksum for file, (_, checksum) in files.items()}


def _each(
    dataset: Dataset, cohort: list[Member], work: Callable[[Dataset, Member], Made], jobs: int
) -> Iterator[tuple[Member, Made]]:
    """Each member with what `work` makes of it, in `jobs` processes."""
    processes = ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) if jobs > 1 else nullcontext()
    try:
        with processes as pool:
            yield from zip(cohort, (pool.map if pool else map)(partial(work, dataset), cohort), strict=True)
    except BrokenProcessPool:
        raise StudyError(
            f"data set '{dataset.name}': a process that made volumes died (out of memory?); what was made is kept, and "
            "fewer --jobs need less memory"
        ) from None


def _volume(dataset: Dataset, member: Member) -> Volume:
    """One volume as it will stand in the prepared file; whatever is wrong with a file is a `StudyError` that names it."""
    first = next(iter(_files(member)), "")
    with reading(Path(first), f"volume of source {dataset.source}") if first else nullcontext():
        image, attributes = source(dataset.source).make(dataset, **member.how)
        attributes = {name: value for name, value in attributes.items() if name != "files"} | {"person": member.subject}
        try:
            return checked_volume(member.volume, member.split, image, attributes, dataset.shape, dataset.domain)
        except StudyError as error:
            raise StudyError(f"{first}: {error}" if first else str(error)) from None


def _make_part(dataset: Dataset, member: Member, parts: Path, code: int) -> Made:
    """Make a volume and keep it in `parts`, where it isn't kept there; by a digest of all that it depends on."""
    files = {file: (_state(file), _checksum(file)) for file in _files(member)}
    sources = _named(dataset, files)
    part, problem = parts / f"{digest_json([dataset.digest, code, *member, sources])[:32]}.h5", ""
    try:
        if not _kept(part):
            volume = _volume(dataset, member)
            if changed := [file for file, (state, _) in files.items() if _state(file) != state]:
                raise StudyError(f"{changed[0]}: changed while it was read")
            volume.attributes["sources"] = sources
            write_prepared(part, dataset.model_dump_json(), code, [volume])
    except UnwritableError:
        raise  # that says nothing of the volume: leaving it out would make another data set
    except StudyError as error:
        problem = str(error)
    # What has changed meanwhile isn't what the reason is of: the volume will be tried again.
    files = {file: (state, checksum if _state(file) == state else "") for file, (state, checksum) in files.items()}
    return Made(problem, part=part, files=files)


def _kept(part: Path) -> Volume | None:
    """The volume that is kept at `part`; None where it isn't there, or is damaged."""
    with suppress(StudyError):
        (volume,) = prepared.read_prepared(part)
        volume.attributes["sources"] = source_checksums(part)[volume.subject]
        return volume
    return None


def _look(dataset: Dataset, member: Member, headers: bool) -> Made:
    try:
        if headers:
            with reading(Path(next(iter(_files(member)), "")), f"volume of source {dataset.source}"):
                return Made("", source(dataset.source).count(dataset, **member.how))
        volume = _volume(dataset, member)
        return Made("", len(volume.image), image_sha256(volume.image), float(volume.attributes.get("below_zero", 0)))
    except StudyError as error:
        return Made(str(error))
