"""What tables follow from, piece by piece: declarations, records, curves and metrics of runs, no weights.

A piece is a cell of Table 1, or an experiment, with one seed: one file in `results/<profile>/evidence/`. They are
committed, so that whoever has the repository can check every table without training, and so that a study too long for one
sitting, or one machine, grows piece by piece: a profile that is `in_pieces` has tables of those that are there.
"""

import io
import json
import lzma
import tarfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from kdmri_lib.declarations import Run
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import atomic_write, read_json
from kdmri_study.experiments.part import PARTS, Rows
from kdmri_study.metrics import untrained, untrained_folder
from kdmri_study.runs import CURVE, SLICES, VOLUMES, RunFolder
from kdmri_study.study import Study, with_needs

OF_RUN = ("declaration.json", "run.json", CURVE, VOLUMES, SLICES)
OF_UNTRAINED = ("inputs.json", VOLUMES, SLICES)


class Piece(NamedTuple):
    """A cell or an experiment with one seed: its runs, each after those that it needs; and (setting, method) of the methods
    without training that its tables show."""

    name: str
    runs: tuple[Run, ...]
    untrained: tuple[tuple[Run, str], ...]

    def file(self, study: Study) -> Path:
        """Where its evidence lies."""
        return study.results / "evidence" / f"{self.name}.tar.xz"


def _runs_of(rows: Iterable[Rows]) -> tuple[Run, ...]:
    return tuple(with_needs(row.run for named in rows for row in named.values()).values())


def pieces(study: Study) -> list[Piece]:
    """All pieces of a study: every run is in at least one."""
    found = []
    for cell in study.cells:
        for seed in study.profile.seeds:
            rows = study.rows(cell, seed)
            shown = ((rows["student"].run, "zero_filled"),)
            found.append(Piece(f"{cell.tag}_seed{seed}", _runs_of([rows]), shown))
    for name in study.profile.experiments:
        parts = [PARTS.find(part) for part in study.experiment_parts(name)]
        for seed in study.experiment_seeds(name):
            rows = [(part, study.experiment_rows(name, part.name, seed)) for part in parts]
            shown = [
                (next(iter(named.values())).run, method)
                for part, named in rows
                if part.tabled
                for method in part.untrained
            ]
            found.append(Piece(f"{name}_seed{seed}", _runs_of(named for _, named in rows), tuple(shown)))
    return found


def piece(study: Study, name: str) -> Piece:
    """The piece of that name; `StudyError` when there is none."""
    for found in pieces(study):
        if found.name == name:
            return found
    raise StudyError(f"profile '{study.name}' has no piece '{name}'; it has {', '.join(p.name for p in pieces(study))}")


def write_evidence(study: Study, of: Piece) -> Path:
    """Write the evidence of a piece whose runs are finished; the same runs give the same bytes."""
    for setting, method in of.untrained:
        untrained(study, setting, method)  # measures it where it isn't there
    folders = {untrained_folder(study, s.dataset, s.degradation, method) for s, method in of.untrained}
    files = [RunFolder(study, run).path / name for run in of.runs for name in OF_RUN]
    files += [folder / name for folder in folders for name in OF_UNTRAINED]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in sorted(files):
            content = file.read_bytes()
            about = tarfile.TarInfo(file.relative_to(study.results).as_posix())  # of no owner and no time
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    with atomic_write(of.file(study)) as temporary:
        temporary.write_bytes(lzma.compress(buffer.getvalue()))
    return of.file(study)


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """A piece's file to read; `StudyError` when it is damaged."""
    try:
        # Whole first: a tar stops reading at its end, before the checks of the last block.
        content = io.BytesIO(lzma.decompress(path.read_bytes()))
        with tarfile.open(fileobj=content, mode="r") as archive:
            yield archive
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise StudyError(f"{path}: damaged or cut short ({error})") from None


def recorded(study: Study) -> dict[str, dict]:
    """What is recorded (run.json) of each run that is here or in a piece that is, by its id.

    Raises
    ------
    StudyError
        When a piece or a record is damaged.
    """
    found = {}
    for path in (each.file(study) for each in pieces(study)):
        if path.exists():
            with _opened(path) as archive:
                records = [member for member in archive if Path(member.name).name == "run.json"]
                found |= {Path(m.name).parent.name: json.load(archive.extractfile(m)) for m in records}
    here = {run: study.results / "runs" / run / "run.json" for run in study.runs}
    return found | {run: read_json(path) for run, path in here.items() if path.exists()}


def unpacked(study: Study, folder: Path, whole: Collection[str] | None = None) -> Study:
    """The same study in another, empty folder, with its evidence in place of its runs; of a run that several pieces hold,
    the first one's (`made_twice`).

    `whole` : the pieces that must hold all runs that the profile declares, where they are there at all; all by default. An
        experiment that was changed since its evidence was made is no reason not to show another.

    Raises
    ------
    StudyError
        When there is no evidence, it is damaged, or it holds other runs than the profile declares; when a piece is missing
        of a profile that isn't `in_pieces`.
    """
    there, found = Study(study.source, folder), 0
    for each in pieces(study):
        path = each.file(study)
        if not path.exists():
            if study.profile.in_pieces:
                continue
            raise StudyError(f"{path}: no such file; ./run_all.sh --profile {study.name} makes it")
        with _opened(path) as archive:
            for member in archive:
                target = (there.results / member.name).resolve()
                # By hand: Python before 3.11.4 extracts whatever an archive names.
                if not member.isfile() or not target.is_relative_to(there.results):
                    raise StudyError(f"{path}: holds {member.name}, which is no file of this study's results")
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.extractfile(member).read())
        asked = each.runs if whole is None or each.name in whole else ()
        missing = [run.id for run in asked if not RunFolder(there, run).ended]
        if missing:
            raise StudyError(
                f"{path}: {len(missing)} of the {len(each.runs)} runs that the profile declares aren't in it; the first: "
                f"{missing[0]}; ./run_all.sh --profile {study.name} {each.name} trains them"
            )
        found += 1
    if not found:
        raise StudyError(f"{study.results / 'evidence'}: no evidence; ./run_all.sh --profile {study.name} makes it")
    return there


def made_twice(study: Study) -> list[str]:
    """Which runs two pieces hold with other numbers, in words: two machines trained them, each for its own piece."""
    known: dict[str, tuple[Path, bytes]] = {}
    found = []
    for path in (each.file(study) for each in pieces(study)):
        if path.exists():
            with _opened(path) as archive:
                for member in (m for m in archive if Path(m.name).name == VOLUMES):
                    content = archive.extractfile(member).read()
                    first, its = known.setdefault(member.name, (path, content))
                    if content != its:
                        run = Path(member.name).parent.name
                        found.append(f"{path}: run {run} was trained twice; its numbers are those in {first.name}")
    return found


def record_of(study: Study, run: Run) -> dict:
    """What the evidence has as the run.json of a run; `StudyError` when it hasn't that run, or is damaged."""
    for path in (each.file(study) for each in pieces(study) if run in each.runs):
        try:
            with tarfile.open(fileobj=io.BytesIO(lzma.decompress(path.read_bytes())), mode="r") as archive:
                return json.load(archive.extractfile(f"runs/{run.id}/run.json"))
        except FileNotFoundError:
            continue
        except (KeyError, tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
            raise StudyError(f"{path}: damaged, cut short, or without run {run.id} ({error})") from None
    raise StudyError(f"{study.results / 'evidence'}: run {run.id} isn't in it")
