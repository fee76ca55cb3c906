"""Do the tables and figures still follow from the runs that they name? `python -m kdmri_lib verify`."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from kdmri_lib.errors import StudyError
from kdmri_lib.execution import execute
from kdmri_lib.files import PROJECT
from kdmri_lib.runs import DONE, RunFolder
from kdmri_lib.study import Study

# Times differ from one measurement to the next; nothing else may.
MEASURED = ("times_", "deployment_")
PRECISION = 1e-12  # relative, of numbers in tables


class Job(NamedTuple):
    """A notebook, what its executed copy is called, and its parameters."""

    notebook: str
    part: str
    parameters: dict[str, str]


def jobs(study: Study) -> Iterator[Job]:
    """Every notebook that makes tables or figures from runs, in their order."""
    for dataset in study.used_datasets:
        yield Job("01_data_preparation", dataset, {"dataset": dataset})
    for cell in study.cells:
        where = {"dataset": cell.dataset, "acceleration": f"{cell.acceleration:g}"}
        for notebook in ("02_teacher_training", "03_distillation"):
            yield Job(notebook, cell.tag, where)
    for name, experiment in study.profile.experiments.items():
        yield Job(experiment.notebook, name, {"experiment": name})
    yield Job("08_report", "", {})


def verify(study: Study, notebooks: Sequence[str] = ()) -> list[str]:
    """Make tables and figures anew from the study's runs, in a folder aside; say which differ from those that are there.

    `notebooks` : these alone, all that don't measure time by default. The study's own files are only read.

    Raises
    ------
    StudyError
        When a run isn't finished, or out of date: nothing is trained here.
    """
    states = {run.id: RunFolder(study, run).state() for run in study.runs.values()}
    unfinished = {name: state for name, state in states.items() if state not in DONE}
    if unfinished:
        name, state = next(iter(unfinished.items()))
        raise StudyError(f"{len(unfinished)} of {len(states)} runs can't vouch for a table; the first: {name}, {state}")
    with tempfile.TemporaryDirectory() as folder:
        again = Study(_profile(study), folder)
        again.results.mkdir(parents=True)
        (again.results / "runs").symlink_to(study.results / "runs")
        (again.folder / "data").mkdir()
        (again.folder / "data" / "prepared").symlink_to(study.folder / "data" / "prepared")
        for job in jobs(study):
            if not notebooks or job.notebook in notebooks:
                output = again.results / "notebooks" / f"{job.notebook}_{job.part}.ipynb"
                common = {"profile": _profile(study), "folder": folder}
                execute(PROJECT / "notebooks" / f"{job.notebook}.ipynb", output, common | job.parameters)
        return _differences(again.results, study.results)


def _profile(study: Study) -> str:
    """The profile as commands and notebooks take it: its name, or its path where it isn't the project's."""
    return study.source if study.source.endswith((".yaml", ".yml")) else study.name


def _differences(new: Path, old: Path) -> list[str]:
    found = []
    for path in sorted([*new.glob("tables/*.csv"), *new.glob("figures/*.png")]):
        there = old / path.relative_to(new)
        if path.name.startswith(MEASURED):
            continue
        if not there.exists():
            found.append(f"{there}: not there")
        elif difference := (_tables if path.suffix == ".csv" else _pictures)(path, there):
            found.append(f"{there}: {difference}")
    return found


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
