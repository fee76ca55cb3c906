"""From a declared data set to its prepared file.

A source is a module of `kdmri_lib.datasets.sources` or `kdmri_lib.datasets.phantoms` (see `Source`); a further one is one
more file there. What all of them have in common is done here: splits, normalisation, checks, checksums, going on after a
stop.
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
from tqdm.auto import tqdm

from kdmri_lib.datasets import phantoms, prepared, sources
from kdmri_lib.datasets.cohort import SPLITS, Member, split_subjects
from kdmri_lib.datasets.folders import label_maps
from kdmri_lib.datasets.prepared import Volume, checked_volume, image_sha256, kept_apart, write_prepared
from kdmri_lib.datasets.reading import named, reading
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError, UnwritableError
from kdmri_lib.storage import PROJECT, digest_json, read_json, sha256_file, write_json


class Source(Protocol):
    """What the module of a source holds; one that generates its images needs `cohort` and `make` alone."""

    IMAGES: int = 1
    """Raised by hand when the source's images change: files that were prepared before are made again."""

    OPTIONS: Mapping[str, Any] = {}
    """The options that it takes, by name, and their types."""

    ENDINGS: tuple[str, ...]
    """Of a download: how names of files end that it reads, in small letters; none where any may be one."""

    def cohort(self, dataset: Dataset) -> Iterator[Member]:
        """Every volume that there is; of a download without a split, unless its distributor set the subject apart."""

    def count(self, dataset: Dataset, **how) -> int:
        """How many slices `make` will give at most, without reading images."""

    def make(self, dataset: Dataset, **how) -> tuple[np.ndarray, dict]:
        """The raw image (slices, H, W), in any unit, a magnitude or, where `dataset.domain` says so, complex; and
        attributes: "origin" at least, "kind" where it isn't real MR, "spacing" (slice, row, column) in mm where known."""


class Preparation(NamedTuple):
    """`made` is False where the file was there, up to date; `left_out`: reason by volume that couldn't be made."""

    made: bool
    left_out: dict[str, str]


class Made(NamedTuple):
    """What is known of a volume: the reason where it couldn't be made; its slices, its image's SHA-256, the share of the
    signal below 0; where `prepare` keeps it; and of its files the SHA-256 by name, and by state."""

    member: Member
    problem: str = ""
    slices: int = 0
    image: str = ""
    below_zero: float = 0.0
    part: Path = Path()
    sources: Mapping[str, str] = {}
    states: Mapping[str, str] = {}


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
    """The module of a source; `StudyError` when there is none, or it needs a package that isn't there."""
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
    found = module.cohort(dataset)
    cohort = split_subjects(dataset, found) if hasattr(module, "ENDINGS") else list(found)
    for name, times in Counter(member.volume for member in cohort).items():
        if times > 1:
            files = ", ".join(file for member in cohort if member.volume == name for file in _files(member)[:1])
            raise StudyError(f"{where}: {times} volumes are called {name} ({files})")
    return cohort


def prepare(dataset: Dataset, path: Path, jobs: int = 1) -> Preparation:
    """Make every volume of `dataset`, in `jobs` processes of a volume each, and write the prepared file at `path`.

    A volume that can't be made is left out, and said; the others go on. Each is kept in a prepared file of its own until
    all are there, so that a stopped preparation goes on where it was. Nothing is done where the file is there, of the same
    images' number and of the files that there are (`changed_sources`). `StudyError` when a split is left without any
    volume, or a person or an image is in two; `UnwritableError` when the disk is full, say, and what was made is kept.
    """
    parts = path.with_name(f".{path.stem}.parts")
    if _up_to_date(dataset, path):
        shutil.rmtree(parts, ignore_errors=True)  # of one that was killed when all else was done
        return Preparation(False, prepared.left_out(path))
    cohort, made = members(dataset), []
    parts.mkdir(parents=True, exist_ok=True)
    each = _each(dataset, cohort, partial(_make_part, parts=parts), jobs)
    shown = tqdm(each, f"preparing {dataset.name}", len(cohort), unit="volume", mininterval=2)
    for found in shown:
        made.append(found)
        if found.problem:
            shown.write(f"left out {found.member.volume}: {found.problem}")
    kept = [found.part for found in _left(dataset, made)]
    broken = {found.member.volume: (found.problem, found.sources) for found in made if found.problem}
    size = sum(part.stat().st_size for part in kept)
    write_prepared(path, dataset.model_dump_json(), images_number(dataset), map(_kept, kept), broken, size)
    if states := {state: checksum for found in made for state, checksum in found.states.items() if checksum}:
        with suppress(UnwritableError):
            write_json(_remembered(path), states)
    shutil.rmtree(parts)
    return Preparation(True, prepared.left_out(path))


def survey(dataset: Dataset, jobs: int = 1, headers: bool = False, path: Path | None = None) -> Survey:
    """What `prepare` would make of a download: each volume is made as it does it, and thrown away; or, of one that is
    prepared at `path` and up to date, what it made.

    `headers` : only headers are read, so that it takes seconds: slices are counted at most, and what is wrong with values
    isn't seen.
    """
    cohort, known, stopped = members(dataset), {}, ""
    if path is not None and _up_to_date(dataset, path):
        made = _made_before(cohort, path)
    else:
        each = _each(dataset, cohort, partial(_look, headers=headers), 1 if headers else jobs)
        said = f"checking {dataset.name}"
        made = list(tqdm(each, said, len(cohort), unit="volume", mininterval=2, disable=headers, leave=False))
    try:
        for found in _left(dataset, made):
            split, person, volume, *_ = found.member
            kept_apart(known, f"data set '{dataset.name}'", volume, split, person, found.image or volume)
    except StudyError as error:
        stopped = str(error)
    of = {split: [found for found in made if found.member.split == split] for split in SPLITS}
    endings = getattr(source(dataset.source), "ENDINGS", ())
    passed_over = label_maps(PROJECT / dataset.folder, endings, dataset.pattern) if dataset.folder and endings else []
    return Survey(
        {split: len({found.member.subject for found in of[split]}) for split in SPLITS},
        {split: len(of[split]) for split in SPLITS},
        {split: sum(found.slices for found in of[split]) for split in SPLITS},
        {found.member.volume: found.problem for found in made if found.problem},
        {found.member.volume: found.below_zero for found in made if found.below_zero},
        [str(place) for place in passed_over],
        stopped,
    )


def _made_before(cohort: list[Member], path: Path) -> list[Made]:
    """What is known of each volume by the prepared file at `path`."""
    problems, made = prepared.left_out(path), []
    with prepared.opened(path) as file:
        for member in cohort:
            data = file["volumes"].get(member.volume, np.empty(0))
            below_zero = data.attrs.get("below_zero", 0) if len(data) else 0
            made.append(Made(member, problems.get(member.volume, ""), len(data), below_zero=float(below_zero)))
    return made


def _left(dataset: Dataset, made: list[Made]) -> list[Made]:
    """What was made without a problem; `StudyError` when a split has none of it."""
    for split in SPLITS:
        reasons = [found.problem for found in made if found.member.split == split]
        if all(reasons):
            more = [f"and {len(reasons) - 3} more"] if len(reasons) > 3 else []
            said = "; ".join(reasons[:3] + more) or "none is in it"
            raise StudyError(f"data set '{dataset.name}': no volume left for split '{split}' ({said})")
    return [found for found in made if not found.problem]


def _up_to_date(dataset: Dataset, path: Path) -> bool:
    same = path.exists() and prepared.attribute(path, "code") == images_number(dataset)
    return same and not changed_sources(dataset, path)


def changed_sources(dataset: Dataset, path: Path) -> str:
    """How the files that the prepared file at `path` was made from have changed since; empty where they haven't.

    Files are compared by their SHA-256. One of the same size and times as when it was prepared isn't read again: that is
    kept beside the prepared file, and may be deleted. Files of volumes that were left out count as any other. `StudyError`
    when a file can't be read any more, or the download isn't as declared.
    """
    folder = PROJECT / (dataset.folder or "")
    if not folder.is_dir():  # a download may be deleted when it is prepared
        return ""
    cohort, checksums = {member.volume: member for member in members(dataset)}, prepared.source_checksums(path)
    if added := sorted(cohort.keys() - checksums.keys()):
        return f"{added[0]} is new"
    if gone := sorted(checksums.keys() - cohort.keys()):
        return f"{gone[0]} is gone"
    before = {volume: split for split, volumes in prepared.splits(path).items() for volume in volumes}
    if moved := [volume for volume, split in before.items() if cohort[volume].split != split]:
        return f"{moved[0]} is in split {cohort[moved[0]].split} now"
    known: dict[str, str] = {}
    with suppress(StudyError):  # a help only: without it files are read
        known = read_json(_remembered(path))
    for volume, member in cohort.items():
        recorded = {str(folder / name): checksum for name, checksum in checksums[volume].items()}
        for file in sorted({*recorded, *_files(member)}):
            if file not in recorded:
                return f"{file} is new"
            state, checksum = _state(file, known)
            if checksum != recorded[file]:
                if state and not checksum:
                    raise StudyError(f"{file}: can't be read any more, and so isn't known to be what was prepared")
                return f"{file} was replaced" if state else f"{file} is gone"
    return ""


def _remembered(path: Path) -> Path:
    """Where the SHA-256 is kept by the state of each file that `path` was made from."""
    return path.with_name(f".{path.stem}.files.json")


def _state(file: str, known: Mapping[str, str]) -> tuple[str, str]:
    """A file's name, size, and when content and entry last changed, in ns; and its SHA-256, `known` by these or computed.
    Both are empty where there is no such file, the SHA-256 where it may not be read."""
    state = checksum = ""
    with suppress(OSError):
        found = Path(file).stat()
        state = f"{file} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
        checksum = known.get(state) or sha256_file(Path(file))
    return state, checksum


def _files(member: Member) -> list[str]:
    """The files that a volume is made from."""
    given = (value for key, value in member.how.items() if key.endswith(("file", "files")))
    return [file for value in given for file in ([value] if isinstance(value, str) else value)]


def _each(dataset: Dataset, cohort: list[Member], work: Callable[[Dataset, Member], Made], jobs: int) -> Iterator[Made]:
    """What `work` makes of each member, in `jobs` processes."""
    try:
        with ProcessPoolExecutor(jobs, get_context("spawn")) if jobs > 1 else nullcontext() as pool:
            yield from (pool.map if pool else map)(partial(work, dataset), cohort)
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
        attributes = {"kind": "real MR"} | attributes | {"person": member.subject}
        with named(first) if first else nullcontext():
            return checked_volume(member.volume, member.split, image, attributes, dataset.shape, dataset.domain)


def _make_part(dataset: Dataset, member: Member, parts: Path) -> Made:
    """Make a volume and keep it in `parts`, where it isn't kept there; by a digest of all that it depends on."""
    # Before it is read: a file that changes meanwhile isn't what it was in either, and will be noticed.
    found = {file: _state(file, {}) for file in _files(member)}
    # By its path below the download, or the project, so that both may be moved.
    folder, code = PROJECT / (dataset.folder or ""), images_number(dataset)
    names = {file: str(Path(file).relative_to(folder)) if Path(file).is_relative_to(folder) else file for file in found}
    sources = {names[file]: checksum for file, (_, checksum) in found.items()}
    part, problem = parts / f"{digest_json([dataset.digest, code, *member, sources])[:32]}.h5", ""
    try:
        if not _kept(part):
            volume = _volume(dataset, member)
            volume.attributes["sources"] = sources
            write_prepared(part, dataset.model_dump_json(), code, [volume])
    except UnwritableError:
        raise  # that says nothing of the volume: leaving it out would make another data set
    except StudyError as error:
        problem = str(error)
    return Made(member, problem, part=part, sources=sources, states=dict(found.values()))


def _kept(part: Path) -> Volume | None:
    """The volume that is kept at `part`; None where it isn't there, or is damaged."""
    with suppress(StudyError):
        (volume,) = prepared.read_prepared(part)
        volume.attributes["sources"] = prepared.source_checksums(part)[volume.subject]
        return volume
    return None


def _look(dataset: Dataset, member: Member, headers: bool) -> Made:
    """What is known of a volume by making it, or by its headers alone."""
    try:
        if headers:
            with reading(Path(next(iter(_files(member)), "")), f"volume of source {dataset.source}"):
                return Made(member, slices=source(dataset.source).count(dataset, **member.how))
        volume = _volume(dataset, member)
        below_zero = float(volume.attributes.get("below_zero", 0))
        return Made(member, "", len(volume.image), image_sha256(volume.image), below_zero)
    except StudyError as error:
        return Made(member, str(error))
