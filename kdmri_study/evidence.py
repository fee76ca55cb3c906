"""What stays of a study: jobs, and of each the declarations, costs, curves and metrics of its runs, as tables.

A job is a setting of Table 1, or an experiment, with one seed. One process trains all of its runs and writes its evidence,
`results/<profile>/evidence/<job>/`, from which every table follows without images or weights. So a study too long for one
sitting, or one machine, grows job by job.
"""

import json
import lzma
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kdmri_lib.datasets.prepared import test_volumes
from kdmri_lib.declarations import Dataset, Run, Undersampling
from kdmri_lib.declared import declared_operator
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import evaluate
from kdmri_lib.models.bicubic import Bicubic
from kdmri_lib.storage import atomic_write
from kdmri_study.profile import Study, with_needs
from kdmri_study.recipes import Row, Rows, part_of, stage
from kdmri_study.runs import DONE, Outcome, RunFolder, prepare_dataset, trained

UNTRAINED = {"zero_filled": "Zero-filled", "bicubic": "Bicubic"}
FILES = ("runs.csv", "curves.csv.xz", "metrics.csv.xz", "slices.csv.xz")
DECLARED = ("network", "objective", "schedule", "seed", "precision", "subjects", "truths", "teacher_asked", "taken")


class Job(NamedTuple):
    """A setting of Table 1, or an experiment, with one seed."""

    name: str  # such as brain_4x_seed0
    rows: dict[str, Rows]  # by part; of a setting the part is "table1"
    untrained: tuple[str, ...]  # methods without training that its tables show

    @property
    def all_rows(self) -> list[Row]:
        """Its rows, whatever part they are of."""
        return [row for rows in self.rows.values() for row in rows.values()]

    @property
    def runs(self) -> dict[str, Run]:
        """Its runs by their ids, each after those that it needs."""
        return with_needs(row.run for row in self.all_rows)

    @property
    def settings(self) -> list[tuple[Dataset, Undersampling]]:
        """Images and masks that its rows are tested on."""
        found = {(row.run.dataset.digest, row.run.undersampling.digest): row.run for row in self.all_rows}
        return [(run.dataset, run.undersampling) for run in found.values()]

    @property
    def files(self) -> tuple[str, ...]:
        """What its evidence consists of; metrics per slice are kept of Table 1 alone."""
        return FILES if "table1" in self.rows else FILES[:3]

    def folder(self, study: Study) -> Path:
        """Where its evidence lies."""
        return study.results / "evidence" / self.name


def jobs(study: Study) -> dict[str, Job]:
    """All jobs of a study by name; every run is in at least one."""
    found = {}
    for setting in study.settings:
        for seed in study.profile.seeds:
            name = f"{setting.tag}_seed{seed}"
            found[name] = Job(name, {"table1": study.rows(setting, seed)}, ("zero_filled",))
    for experiment in study.profile.experiments:
        parts = [part_of(name) for name in study.experiment_parts(experiment)]
        methods = tuple(dict.fromkeys(m for part in parts if part.tabled for m in part.untrained))
        for seed in study.experiment_seeds(experiment):
            rows = {part.name: study.experiment_rows(experiment, part.name, seed) for part in parts}
            name = f"{experiment}_seed{seed}"
            found[name] = Job(name, rows, methods)
    return found


def datasets(of: Iterable[Job]) -> list[Dataset]:
    """Every data set that these jobs train or test on, those that a teacher comes from included."""
    found = {run.dataset.digest: run.dataset for each in of for run in each.runs.values()}
    return list(found.values())


def job(study: Study, name: str) -> Job:
    """The job of that name; `StudyError` when there is none."""
    return study.known(jobs(study), name, "job")


def train_job(study: Study, of: Job, stop=lambda: False) -> Path:
    """Prepare images and train every run of a job that isn't there, in this process, then write its evidence; where that
    lies.

    Killed, it goes on where it was. `StoppedError` when `stop()` became true.
    """
    labels = {row.run.id: row.label for row in of.all_rows}
    for run in of.runs.values():
        if not study.prepared(run.dataset).exists():
            prepare_dataset(study, run.dataset)
        trained(study, run, f"{of.name.replace('_', ' ')}: {labels.get(run.id, 'a stage before')}", stop)
    return write_evidence(study, of)


def untrained(study: Study, dataset: Dataset, undersampling: Undersampling, method: str) -> Outcome:
    """The metrics of a method without training on all test sets, measured now."""
    model = Bicubic(undersampling.acceleration) if method == "bicubic" else None
    operator = declared_operator(dataset, undersampling)
    volumes, slices = evaluate(model, operator, test_volumes(study.prepared(dataset)))
    return Outcome({"run": _key(method, dataset, undersampling)}, pd.DataFrame(), volumes, slices)


def _key(method: str, dataset: Dataset, undersampling: Undersampling) -> str:
    """What evidence calls a method without training on a setting's images."""
    return f"{method} {dataset.name} {dataset.digest} {undersampling.tag} {undersampling.digest}"


def write_evidence(study: Study, of: Job) -> Path:
    """Write the evidence of a job whose runs are finished, and where that lies; the same runs give the same tables."""
    outcomes = {run.id: RunFolder(study, run).outcome for run in of.runs.values()}
    for dataset, undersampling in of.settings:
        for method in of.untrained:
            outcome = untrained(study, dataset, undersampling, method)
            outcomes[outcome.record["run"]] = outcome
    about = [_about(run) | outcomes[name].record for name, run in of.runs.items()]
    tables = [
        pd.DataFrame(about),
        *(
            pd.concat([getattr(o, kind).assign(run=name) for name, o in outcomes.items()], ignore_index=True)
            for kind in ("curve", "volumes", "slices")
        ),
    ]
    # The first one last, since it is what says that the evidence is there.
    folder = of.folder(study)
    (folder / FILES[0]).unlink(missing_ok=True)
    for name in reversed(of.files):
        table = tables[FILES.index(name)]
        table = table[["run", *(column for column in table if column != "run")]]
        with atomic_write(folder / name) as temporary:
            table.to_csv(temporary, index=False, compression="xz" if name.endswith(".xz") else None)
    return folder


def _about(run: Run) -> dict:
    """A run's declaration in columns, and what it costs: optimiser steps and multiply-accumulates, its teacher given."""
    declared = run.model_dump(mode="json", exclude_none=True, include=set(DECLARED))
    columns = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in declared.items()}
    steps, macs = stage(run)
    return {
        **{"run": run.id, "dataset": run.dataset.name, "images": run.dataset.digest, "mask": run.undersampling.tag},
        **{name: columns.get(name, "") for name in DECLARED},
        **{name: needed.id if needed else "" for name, needed in (("teacher", run.teacher), ("start", run.start))},
        **{"steps": steps, "macs": macs},
    }


def _table(path: Path) -> pd.DataFrame:
    """One file of a job's evidence; `StudyError` names it where it can't be read."""
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file, and others of this evidence are there") from None
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise StudyError(f"{path}: damaged or cut short ({error})") from None
    if ("torch" if path.name == FILES[0] else "run") not in table:
        raise StudyError(f"{path}: not a job's evidence; columns found: {', '.join(table)}")
    return table


def _outcomes(folder: Path, files: tuple[str, ...]) -> dict[str, Outcome]:
    """A job's outcomes from its evidence, by run's id or by the key of a method without training."""
    tables = [_table(folder / name) for name in files]
    # The compressed files hold checksums of their own; the first is told by the runs that they are of.
    wrong = {*tables[0].run} ^ {*tables[1].run} or {*tables[0].run[tables[0].torch.isna()]}
    if wrong:
        raise StudyError(
            f"{folder / FILES[0]}: damaged or cut short: {', '.join(sorted(map(str, wrong)))} isn't in it whole, or isn't "
            f"in {FILES[1]}"
        )
    tables += [pd.DataFrame(columns=["run"])] * (len(FILES) - len(files))
    records = {row["run"]: {k: v for k, v in row.items() if v == v} for row in tables[0].to_dict("records")}
    curves, volumes, slices = (
        {name: rows.drop(columns="run").reset_index(drop=True) for name, rows in table.groupby("run")}
        for table in tables[1:]
    )
    empty = pd.DataFrame()
    return {
        name: Outcome(records.get(name, {"run": name}), curves.get(name, empty), found, slices.get(name, empty))
        for name, found in volumes.items()
    }


class Evidence:
    """The outcomes of a study's runs, from the tables of its jobs or, where a run is here and whole, from its folder.

    `jobs` : the study's. Of a run that two jobs hold, the first one's outcome counts.
    """

    def __init__(self, study: Study):
        self.study, self.jobs = study, jobs(study)
        self._seen: dict[tuple[str, int], Outcome] = {}
        self._read = cache(_outcomes)
        self._where: dict[str, list[Job]] = {}
        for each in self.jobs.values():
            if (each.folder(study) / FILES[0]).exists():
                keys = [_key(m, d, g) for d, g in each.settings for m in each.untrained]
                for name in (*each.runs, *keys):
                    self._where.setdefault(name, []).append(each)

    def _stored(self, name: str) -> Outcome | None:
        found = (self._read(each.folder(self.study), each.files).get(name) for each in self._where.get(name, []))
        return next(filter(None, found), None)

    def of(self, run: Run) -> Outcome | None:
        """A run's outcome, from its folder where that is whole and, if its images are here, up to date; else from evidence;
        None where neither is."""
        folder = RunFolder(self.study, run)
        if folder.ended:
            key = run.id, (folder.path / "run.json").stat().st_mtime_ns
            if key in self._seen:
                return self._seen[key]
            if folder.state(inputs=self.study.prepared(run.dataset).exists()) in DONE:
                return self._seen.setdefault(key, folder.outcome)
        return self._stored(run.id)

    def of_untrained(self, dataset: Dataset, undersampling: Undersampling, method: str) -> Outcome:
        """Of a method without training: stored, or measured now where the prepared images are here; else `StudyError`."""
        if found := self._stored(_key(method, dataset, undersampling)):
            return found
        if not self.study.prepared(dataset).exists():
            raise StudyError(
                f"{self.study.prepared(dataset)}: no such file, and no evidence of {method} on {dataset.name}"
            )
        return untrained(self.study, dataset, undersampling, method)

    def whole(self, rows: Rows) -> bool:
        """Whether every run of these rows is here or in evidence."""
        return all(self.of(run) for row in rows.values() for run in with_needs([row.run]).values())

    def metrics(
        self, rows: dict[int, Rows], methods: Iterable[str] = ("zero_filled",)
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Metrics of rows by seed, and of methods without training on the first row's images: a row per volume, and a row
        per slice, with columns method, seed (-1 where nothing is trained), dataset and acceleration."""
        setting = next(iter(next(iter(rows.values())).values())).run
        found = [(-1, m, self.of_untrained(setting.dataset, setting.undersampling, m)) for m in methods]
        found += [(seed, name, self.of(row.run)) for seed, named in rows.items() for name, row in named.items()]
        where = {"dataset": setting.dataset.name, "acceleration": setting.undersampling.acceleration}
        return tuple(
            pd.concat([getattr(o, kind).assign(method=m, seed=s, **where) for s, m, o in found], ignore_index=True)
            for kind in ("volumes", "slices")
        )

    def failures(self) -> list[str]:
        """The runs that failed, each with how its numbers went wrong."""
        found = {run.id: self.of(run) for job in self.jobs.values() for run in job.runs.values()}
        return [outcome.failed for outcome in found.values() if outcome and outcome.failed]
