"""From a declared data set to its prepared file.

A source is a module of `kdmri_lib.datasets.sources` or `kdmri_lib.datasets.phantoms` (see `Source`); a further one is one
more file there. What all of them have in common is done here: normalisation, checks, checksums, going on after a stop.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NamedTuple, Protocol

import h5py
import numpy as np
from pydantic import TypeAdapter, ValidationError
from tqdm.auto import tqdm

from kdmri_lib.datasets import phantoms, sources
from kdmri_lib.datasets.cohort import SPLITS, Member
from kdmri_lib.datasets.folders import label_maps
from kdmri_lib.datasets.prepared import (
    Volume,
    image_sha256,
    left_out,
    preparing_code,
    read_prepared,
    source_checksums,
    splits,
)
from kdmri_lib.datasets.reading import reading
from kdmri_lib.datasets.writing import checked_volume, join_prepared, kept_apart, write_prepared
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError, UnwritableError
from kdmri_lib.storage import PROJECT, read_json, sha256_file, write_json

UNSTEADY = "changed while it was read"


class Source(Protocol):
    """What the module of a source holds; one that generates its images needs `cohort` and `make` alone."""

    OPTIONS: Mapping[str, Any] | set[str]
    """The options that it takes, by name: their types, where it says them."""

    ENDINGS: tuple[str, ...]
    """How names of files end that it reads, in small letters, of a source that reads some; none where any may be one."""

    def cohort(self, dataset: Dataset) -> Iterator[Member]:
        """Every volume that there is: split, subject, the volume's name, and how to make it."""

    def count(self, dataset: Dataset, **how) -> int:
        """How many slices `make` will give at most, without reading images."""

    def make(self, dataset: Dataset, **how) -> tuple[np.ndarray, dict]:
        """The raw image (slices, H, W), in any unit, a magnitude or, where `dataset.domain` says so, complex; and
        attributes: "kind" and "origin" at least, "files" where it read some, "spacing" (slice, row, column) in mm where it
        is known."""


class Preparation(NamedTuple):
    """`made` is False where the file was there, up to date; `left_out`: reason by volume that couldn't be made."""

    made: bool
    left_out: dict[str, str]


def source(name: str) -> Source:
    """The module of a source; `StudyError` when there is none of that name, or it needs a package that isn't there."""
    places = {m.name: package for package in (sources, phantoms) for m in iter_modules(package.__path__)}
    if name not in places:
        raise StudyError(f"unknown source of images '{name}'; known: {', '.join(sorted(places))}")
    try:
        return import_module(f"{places[name].__name__}.{name}")
    except ModuleNotFoundError as error:
        raise StudyError(f"source '{name}' needs the package {error.name}, which isn't installed") from None


def members(dataset: Dataset) -> list[Member]:
    """Every volume of a data set; `StudyError` for an option that its source can't take, or two volumes of one name."""
    module = source(dataset.source)
    _check_options(dataset, getattr(module, "OPTIONS", set()))
    cohort = list(module.cohort(dataset))
    name, times = next(iter(Counter(member.volume for member in cohort).most_common(1)), ("", 0))
    if times > 1:
        files = ", ".join(file for member in cohort if member.volume == name for file in _files(member)[:1])
        raise StudyError(f"data set '{dataset.name}': {times} volumes are called {name} ({files})")
    return cohort


def _check_options(dataset: Dataset, known: Mapping[str, Any] | set[str]) -> None:
    for name, value in sorted(dataset.options.items()):
        if name not in known:
            raise StudyError(
                f"data set '{dataset.name}': no option {name}; known: {', '.join(sorted(known)) or 'none'}"
            )
        if isinstance(known, Mapping):
            try:
                TypeAdapter(known[name]).validate_python(value, strict=True)
            except ValidationError as error:
                found = error.errors()[0]["msg"]
                raise StudyError(f"data set '{dataset.name}', option '{name}': {found}, found {value!r}") from None


def prepare(dataset: Dataset, path: Path, code: str, jobs: int = 1) -> Preparation:
    """Make every volume of `dataset` and write the prepared file at `path`.

    A volume that can't be made is left out, and said; the others go on. Each is kept in a file of its own until all are
    there, so that a stopped preparation goes on where it was. Nothing is done where the file is there, made by the same
    code from the same files (`changed_sources`).

    Parameters
    ----------
    code : digest of the code that prepares; a file of other code is made again.
    jobs : processes, each holding one volume in memory.

    Raises
    ------
    StudyError
        When a split is left without any volume.
    UnwritableError
        When the disk is full, say; what was made is kept.
    """
    parts = path.with_name(f".{path.stem}.parts")
    if path.exists() and preparing_code(path) == code and not changed_sources(dataset, path):
        shutil.rmtree(parts, ignore_errors=True)  # of one that was killed when all else was done
        return Preparation(False, left_out(path))
    cohort = members(dataset)
    parts.mkdir(parents=True, exist_ok=True)
    stats = {file: _stat(file) for member in cohort for file in _files(member)}
    problems = _make_parts(dataset, cohort, parts, code, jobs)
    made = _left(dataset, cohort, problems)
    untried = {m.volume: _checksums(dataset, _files(m), stats) for m in cohort if m.volume in problems}
    wholes = [_part(parts, member) for member in made]
    join_prepared(path, dataset.model_dump_json(), code, wholes, problems, untried)
    # After the file that they vouch for: before it, an older file would pass for one of the new files.
    _remember(path, stats)
    shutil.rmtree(parts)
    return Preparation(True, problems)


def _left(dataset: Dataset, cohort: list[Member], problems: Mapping[str, str]) -> list[Member]:
    """The members without `problems`; `StudyError` when a split has none of them."""
    for split in SPLITS:
        reasons = [problems.get(member.volume, "") for member in cohort if member.split == split]
        if all(reasons):
            more = [f"and {len(reasons) - 3} more"] if len(reasons) > 3 else []
            said = "; ".join(reasons[:3] + more) or "none is in it"
            raise StudyError(f"data set '{dataset.name}': no volume left for split '{split}' ({said})")
    return [member for member in cohort if member.volume not in problems]


def changed_sources(dataset: Dataset, path: Path) -> str:
    """How the files that the prepared file at `path` was made from have changed since; empty where they haven't.

    A file of the same size and times is taken for the same; any other is compared by its checksum. Sizes and times are kept
    beside the prepared file, and may be deleted. Files of volumes that were left out count as any other.

    Raises
    ------
    StudyError
        When a file can't be read any more, or the download isn't as declared.
    """
    # A download may be deleted when it is prepared.
    if dataset.folder and not (PROJECT / dataset.folder).is_dir():
        return ""
    cohort = members(dataset)
    volumes = {member.volume: member.split for member in cohort}
    before = {volume: split for split, names in splits(path).items() for volume in names}
    checksums = source_checksums(path)
    if added := sorted(volumes.keys() - checksums.keys()):
        return f"{added[0]} is new"
    if gone := sorted(checksums.keys() - volumes.keys()):
        return f"{gone[0]} is gone"
    if moved := [volume for volume, split in before.items() if volumes[volume] != split]:
        return f"{moved[0]} is in split {volumes[moved[0]]} now"
    known, seen = _known(path), {}
    for member in cohort:
        recorded = {_place(dataset, name): checksum for name, checksum in checksums[member.volume].items()}
        if added := sorted(set(_files(member)) - recorded.keys()):
            return f"{added[0]} is new"
        for file, checksum in recorded.items():
            now = _stat(file)
            if (now is None or known.get(file) != now) and (found := _checksum(file)) != checksum:
                if now and not found:
                    raise StudyError(f"{file}: can't be read any more, and so isn't known to be what was prepared")
                return f"{file} was replaced" if now else f"{file} is gone"
            seen[file] = now
    if seen != known:
        _remember(path, seen)
    return ""


def _known_files(path: Path) -> Path:
    """Where sizes and times of the files that `path` was made from stand."""
    return path.with_name(f".{path.stem}.files.json")


def _known(path: Path) -> dict[str, list[int] | None]:
    """Size and times by file, as far as they are known."""
    with suppress(StudyError):  # a help only: without it checksums are compared
        found = read_json(_known_files(path))
        return found if isinstance(found, dict) else {}
    return {}


def _remember(path: Path, stats: dict[str, list[int] | None]) -> None:
    if stats:
        with suppress(UnwritableError):
            write_json(_known_files(path), stats)


def _files(member: Member) -> list[str]:
    """The files that a volume is made from, as far as its source names them beforehand."""
    named = (value for key, value in member.how.items() if key.endswith(("file", "files")))
    return [file for value in named for file in ([value] if isinstance(value, str) else value)]


def _stat(file: str) -> list[int] | None:
    """Size, and when content and entry last changed, in ns; None where there is no such file, as far as one may see."""
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _checksum(file: str) -> str:
    """SHA-256 of a file; empty where it isn't there, or may not be read."""
    with suppress(StudyError), reading(Path(file), "file"):
        return sha256_file(Path(file))
    return ""


def _checksums(dataset: Dataset, files: Iterable[str], before: dict[str, list[int] | None]) -> dict[str, str]:
    """Checksum by name of each file, below the download where it is: `UNSTEADY` of one that isn't as it was `before`."""
    found = {file: _checksum(file) for file in files}
    steady = {file: file not in before or before[file] == _stat(file) for file in found}
    return {_name(dataset, file): checksum if steady[file] else UNSTEADY for file, checksum in found.items()}


def _name(dataset: Dataset, file: str) -> str:
    """What a prepared file calls a file: its path below the download, or the project, so that both may be moved."""
    folder = PROJECT / (dataset.folder or "")
    return str(Path(file).relative_to(folder)) if Path(file).is_relative_to(folder) else file


def _place(dataset: Dataset, name: str) -> str:
    """Where the file of that `_name` lies."""
    return str(PROJECT / (dataset.folder or "") / name)


def _part(parts: Path, member: Member) -> Path:
    """Where a volume's own file lies: by a digest, since names may be longer than a file's may, or differ in case alone."""
    return parts / f"{hashlib.sha256(member.volume.encode()).hexdigest()[:32]}.h5"


def _each(
    dataset: Dataset, waiting: list[Member], work: Callable[[Dataset, Member], Any], jobs: int, bar: tqdm
) -> Iterator[tuple[Member, Any]]:
    """Each member with what `work` makes of it, or with the `StudyError` that says why it can't; `jobs` processes."""

    def result(made: Callable[[], Any]) -> Any:
        try:
            return made()
        except UnwritableError:
            raise  # that says nothing of the volume: leaving it out would make another data set
        except StudyError as error:
            return error
        finally:
            bar.update()

    if jobs == 1:
        for member in waiting:
            yield member, result(lambda member=member: work(dataset, member))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(work, dataset, member): member for member in waiting}
        try:
            for future in as_completed(running):
                yield running[future], result(future.result)
        except UnwritableError:
            pool.shutdown(cancel_futures=True)
            raise
        except BrokenProcessPool:
            raise StudyError(
                f"data set '{dataset.name}': a process that made volumes died (out of memory?); what was made is kept, and "
                "fewer --jobs need less memory"
            ) from None


def _make_parts(dataset: Dataset, cohort: list[Member], parts: Path, code: str, jobs: int) -> dict[str, str]:
    """Make what isn't there yet; returns the reason by volume that couldn't be made."""
    problems: dict[str, str] = {}
    waiting = [member for member in cohort if not _is_there(dataset, member, _part(parts, member), code)]
    with tqdm(total=len(cohort), initial=len(cohort) - len(waiting), unit="volume", mininterval=2) as bar:
        bar.set_description(f"preparing {dataset.name}")
        for member, found in _each(dataset, waiting, partial(_make_part, parts=parts, code=code), jobs, bar):
            if isinstance(found, StudyError):
                problems[member.volume] = str(found)
                bar.write(f"left out {member.volume}: {found}")
    return problems


def _is_there(dataset: Dataset, member: Member, part: Path, code: str) -> bool:
    """Whether a part is whole, of this code, of this split, and of the files that are there now."""
    try:
        if not part.exists() or preparing_code(part) != code:
            return False
        (volume,) = read_prepared(part)
        ((_, checksums),) = source_checksums(part).items()
    except (StudyError, ValueError):
        return False
    recorded = {_place(dataset, name): checksum for name, checksum in checksums.items()}
    same = (volume.split, volume.attributes["person"]) == (member.split, member.subject)
    return same and set(_files(member)) <= recorded.keys() and all(_checksum(f) == c for f, c in recorded.items())


def _made(dataset: Dataset, member: Member) -> tuple[Volume, list[str]]:
    """One volume as it will stand in the prepared file, and the files that it was read from: what `prepare` and `survey`
    share. Whatever is wrong with a file is a `StudyError` that names it."""
    first = next(iter(_files(member)), "")
    with reading(Path(first), f"volume of source {dataset.source}") if first else nullcontext():
        image, attributes = source(dataset.source).make(dataset, **member.how)
        files = attributes.pop("files", [])
        try:
            attributes |= {"person": member.subject}
            volume = checked_volume(member.volume, member.split, image, attributes, dataset.shape, dataset.domain)
            return volume, files
        except StudyError as error:
            raise StudyError(f"{first}: {error}" if first else str(error)) from None


def _make_part(dataset: Dataset, member: Member, parts: Path, code: str) -> None:
    before = {file: _stat(file) for file in _files(member)}
    volume, files = _made(dataset, member)
    checksums = _checksums(dataset, files, before)
    if unsteady := [name for name, checksum in checksums.items() if checksum == UNSTEADY]:
        raise StudyError(f"{_place(dataset, unsteady[0])}: {UNSTEADY}")
    volume.attributes["sources"] = checksums
    write_prepared(_part(parts, member), dataset.model_dump_json(), code, [volume])


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


class Look(NamedTuple):
    """What `survey` keeps of one volume."""

    slices: int
    checksum: str
    below_zero: float


def survey(dataset: Dataset, jobs: int = 1, headers: bool = False) -> Survey:
    """What `prepare` would make of a download: each volume is made as it does it, and thrown away.

    Parameters
    ----------
    headers : only headers are read, so that it takes seconds: slices are counted at most, and what is wrong with values
        isn't seen.
    """
    cohort = members(dataset)
    found, problems = {}, {}
    with tqdm(total=len(cohort), unit="volume", mininterval=2, disable=headers, leave=False) as bar:
        bar.set_description(f"checking {dataset.name}")
        for member, look in _each(dataset, cohort, _counted if headers else _looked_at, 1 if headers else jobs, bar):
            if isinstance(look, StudyError):
                problems[member.volume] = str(look)
            else:
                found[member.volume] = look
    known: dict[str, tuple[str, str]] = {}
    try:
        for member in _left(dataset, cohort, problems):
            image = found[member.volume].checksum or member.volume
            kept_apart(known, f"data set '{dataset.name}'", member.volume, member.split, member.subject, image)
    except StudyError as error:
        return _survey(dataset, cohort, found, problems, str(error))
    return _survey(dataset, cohort, found, problems)


def survey_prepared(dataset: Dataset, path: Path, code: str) -> Survey | None:
    """The same of a download that was prepared at `path`, by what was found then; None when it would be prepared again."""
    if not path.exists() or preparing_code(path) != code or changed_sources(dataset, path):
        return None
    with h5py.File(path) as file:
        found = {v: Look(len(data), "", float(data.attrs.get("below_zero", 0))) for v, data in file["volumes"].items()}
    return _survey(dataset, members(dataset), found, left_out(path))


def _survey(
    dataset: Dataset, cohort: list[Member], found: dict[str, Look], problems: dict[str, str], stopped: str = ""
) -> Survey:
    endings = getattr(source(dataset.source), "ENDINGS", ())
    passed_over = label_maps(PROJECT / dataset.folder, endings, dataset.pattern) if dataset.folder and endings else []
    return Survey(
        {split: len({m.subject for m in cohort if m.split == split}) for split in SPLITS},
        {split: sum(m.split == split for m in cohort) for split in SPLITS},
        {
            split: sum(found[m.volume].slices for m in cohort if m.split == split and m.volume in found)
            for split in SPLITS
        },
        dict(problems),
        {volume: look.below_zero for volume, look in found.items() if look.below_zero},
        [str(place) for place in passed_over],
        stopped,
    )


def _looked_at(dataset: Dataset, member: Member) -> Look:
    volume, _ = _made(dataset, member)
    return Look(len(volume.image), image_sha256(volume.image), float(volume.attributes.get("below_zero", 0)))


def _counted(dataset: Dataset, member: Member) -> Look:
    first = next(iter(_files(member)), "")
    with reading(Path(first), f"volume of source {dataset.source}"):
        return Look(source(dataset.source).count(dataset, **member.how), "", 0.0)
