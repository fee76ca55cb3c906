"""Do the tables and figures still follow from what was measured? `python -m kdmri_lib verify`.

From the committed evidence every table of metrics, and every figure of an experiment, is made again in seconds, in a clone
where nothing was trained (`verify_evidence`); where the runs are, every table and figure, by executing the notebooks
(`verify_runs`).
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from kdmri_lib.datasets.prepared import preparing_code as code_of
from kdmri_lib.datasets.preparing import changed_sources
from kdmri_lib.declarations import Run
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import read_json, sha256_file
from kdmri_study.cards import wrong_models
from kdmri_study.derived import all_measured, all_tables
from kdmri_study.drawn import write_figures
from kdmri_study.evidence import OF_RUN, made_twice, pieces, unpacked
from kdmri_study.jobs import FOLDERS, Job, execute, jobs
from kdmri_study.provenance import preparing_code, training_code
from kdmri_study.readme import wrong_blocks
from kdmri_study.runs import RunFolder, check_finished
from kdmri_study.study import Study
from kdmri_study.tables import write_table

SHOWN = (".csv", ".png")  # of a table or figure, the file that the others are renderings of
PRECISION = 1e-12  # relative, of numbers in tables


class Verdict(NamedTuple):
    """What was found: files that differ, are missing or that nothing asks for; what can't be compared; runs that were made
    by code which has changed since; and how many files were compared."""

    wrong: list[str]
    not_compared: list[str]
    changed: Sequence[str] = ()
    compared: int = 0


def verify_evidence(study: Study) -> Verdict:
    """Make every table of metrics and figure of an experiment anew from the evidence, and compare those that are there, the
    README files and the model cards.

    Raises
    ------
    StudyError
        When there is no evidence, it is damaged, or isn't of the profile.
    """
    wrong, not_compared, compared = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        there = unpacked(study, Path(folder))
        changed: dict[str, None] = {}
        for piece in pieces(there):
            for run in piece.runs if piece.file(study).exists() else ():
                wrong += _not_as_recorded(there, run, piece.file(study))
                about = RunFolder(there, run).record
                if about["inputs"]["code"] != training_code(run):
                    changed[f"{run.id} (commit {about['commit']})"] = None
        parts = list(all_measured(there))
        found = {derived.name: derived for derived in all_tables(there, parts)}
        figures = set(write_figures(there, parts))
        for job in jobs(study):
            for output in job.outputs:
                files = [file for file in output.files(study) if file.suffix in (".csv", ".md", ".txt")]
                if output.kind == "table" and output.name in found:
                    derived = found[output.name]
                    write_table(derived.table, there.table(output.name), derived.runs, derived.text)
                    wrong += _different(zip(output.files(there), files, strict=True))
                    compared += len(files)
                elif output.kind == "figure" and (anew := there.figure(output.name)) in figures:
                    wrong += _different([(anew, study.figure(output.name))])
                    compared += 1
                else:
                    shown = [file for file in output.files(study) if file.suffix in SHOWN]
                    not_compared += [
                        f"{f}: not of metrics alone" for f in shown if f.exists() or not study.profile.in_pieces
                    ]
        not_compared += made_twice(study)
        wrong += wrong_blocks(study) + wrong_models(study, there)
    return Verdict(wrong, not_compared, list(changed), compared)


def _not_as_recorded(study: Study, run: Run, evidence: Path) -> Iterator[str]:
    """What is wrong with a run in unpacked evidence."""
    left = RunFolder(study, run)
    # As a declaration, not as text: a choice that is new since then was left at its default.
    if Run.model_validate(read_json(left.path / "declaration.json")) != run:
        yield f"{evidence}: {run.id} isn't the run that it is named after"
    if damaged := [n for n in OF_RUN[2:] if sha256_file(left.path / n) != left.record["files"][n]]:
        yield f"{evidence}: {run.id}, {damaged[0]} isn't what was recorded"


def _different(pairs: Iterable[tuple[Path, Path]]) -> list[str]:
    """What is wrong with files, each after the one that it should be as."""
    wrong = []
    for anew, file in pairs:
        said = COMPARISONS[file.suffix](anew, file) if file.exists() else "not there"
        wrong += [f"{file}: {said}"] if said else []
    return wrong


def verify_runs(study: Study, notebooks: Sequence[str] = ()) -> Verdict:
    """Make every table and figure anew from the study's runs, in a folder aside, and compare it with the one that is there.

    `notebooks` : these alone, all by default; the report reads what the others make, and is made only with all of them. The
    study's own files are only read.

    Raises
    ------
    StudyError
        When a run isn't finished, or prepared images aren't of the code or of the files that are here: nothing is trained
        or prepared here.
    """
    check_finished(study)
    for name in study.used_datasets:
        dataset, path = study.dataset(name), study.prepared(name)
        changed = changed_sources(dataset, path) or "its code changed" * (code_of(path) != preparing_code(dataset))
        if changed:
            raise StudyError(f"{path}: out of date ({changed}); prepare it first")
    chosen = [job for job in jobs(study) if not notebooks or job.notebook in notebooks]
    with tempfile.TemporaryDirectory() as folder:
        again = Study(study.source, folder)
        again.results.mkdir(parents=True)
        (again.results / "runs").symlink_to(study.results / "runs")
        (again.folder / "data").mkdir()
        (again.folder / "data" / "prepared").symlink_to(study.folder / "data" / "prepared")
        for job in chosen:
            execute(job.source, job.executed(again), {"profile": study.source, "folder": folder} | job.parameters)
        wrong, not_compared = _compared(chosen, again, study)
    return Verdict(wrong + (_left_over(study) if not notebooks else []), not_compared)


def _compared(chosen: Sequence[Job], again: Study, study: Study) -> tuple[list[str], list[str]]:
    wrong, not_compared = [], []
    for job in chosen:
        wrong += [f"{file}: not there" for file in job.written(study) if not file.exists()]
        not_compared.append(f"{job.executed(study)}: an executed notebook")
        for output in job.outputs:
            for file, anew in zip(output.files(study), output.files(again), strict=True):
                if output.measured:
                    not_compared.append(f"{file}: measured times")
                elif file.suffix not in COMPARISONS:
                    not_compared.append(f"{file}: a rendering ({file.suffix})")
                elif file.exists():
                    wrong += _different([(anew, file)])
    return wrong, not_compared


def _left_over(study: Study) -> list[str]:
    """Files that are there and that the profile doesn't ask for."""
    wanted = {file for job in jobs(study) for file in job.written(study)}
    folders = [*FOLDERS.values(), "notebooks"]
    there = (path for folder in folders for path in sorted((study.results / folder).glob("*")) if path.is_file())
    return [f"{path}: the profile doesn't ask for it" for path in there if path not in wanted]


def _tables(new: Path, old: Path) -> str:
    a, b = pd.read_csv(new), pd.read_csv(old)
    if list(a.columns) != list(b.columns) or len(a) != len(b):
        return f"{len(b)} rows of {', '.join(b.columns)}; from its runs: {len(a)} rows of {', '.join(a.columns)}"
    for column in a:
        x, y = a[column], b[column]
        if pd.api.types.is_numeric_dtype(x) and pd.api.types.is_numeric_dtype(y):
            same = np.isclose(x, y, rtol=PRECISION, atol=0, equal_nan=True)
        else:
            same = ((x == y) | (x.isna() & y.isna())).to_numpy()
        if not same.all():
            row = int(np.flatnonzero(~same)[0])
            return f"row {row}, {column}: {y[row]}; from its runs: {x[row]}"
    return ""


def _pictures(new: Path, old: Path) -> str:
    with Image.open(new) as a, Image.open(old) as b:
        if a.size != b.size:
            return f"{b.size} pixels; from its runs: {a.size}"
        different = int((np.asarray(a) != np.asarray(b)).any(axis=-1).sum())
        if different:
            return f"{different} pixels differ from the picture made from its runs"
        if a.text.get("Description") != b.text.get("Description"):
            return "made from other runs, or another profile, than it says"
    return ""


def _texts(new: Path, old: Path) -> str:
    a, b = (path.read_text(encoding="utf-8").splitlines() for path in (new, old))
    different = next((n for n, pair in enumerate(zip_longest(a, b), 1) if pair[0] != pair[1]), None)
    return f"line {different} isn't as from its runs" if different else ""


COMPARISONS = {".csv": _tables, ".png": _pictures, ".md": _texts, ".txt": _texts}
