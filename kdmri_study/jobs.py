"""The one list of what the study's notebooks make, from what: the workflow, verification and the report read it.

A notebook is declared by a function under `@notebook`: for its parameters, which runs and data sets it needs, and every
table and figure that it writes. It can write no other (`kdmri_study.notebook`).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import papermill
import yaml
from papermill.exceptions import PapermillExecutionError

from kdmri_lib.declarations import Dataset, Degradation, Run
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT, atomic_write
from kdmri_study.build import mask_file
from kdmri_study.experiments.part import PARTS
from kdmri_study.profile import Cell
from kdmri_study.provenance import notebook_code
from kdmri_study.study import Study
from kdmri_study.tables import PUBLISHED

FOLDERS = {"table": "tables", "figure": "figures"}


class Output(NamedTuple):
    """A table or figure that a notebook writes: its name and title, and the endings of its files.

    `measured` : whether it holds times, which differ from one measurement to the next. `reported` : whether a table has a
    rendering of its own.
    """

    kind: str
    name: str
    title: str
    endings: tuple[str, ...]
    measured: bool = False
    reported: bool = True

    def files(self, study: Study) -> list[Path]:
        """Its files, the one that others are renderings of first."""
        return [study.results / FOLDERS[self.kind] / f"{self.name}{ending}" for ending in self.endings]


def table(name: str, title: str, **more) -> Output:
    """A table for reading; `reported=False` for one that only other notebooks read."""
    return Output("table", name, title, (".csv", ".runs.txt", *[".md"] * more.get("reported", True)), **more)


def figure(name: str, title: str, **more) -> Output:
    """A figure, for the screen and for print."""
    return Output("figure", name, title, (".png", ".pdf"), **more)


class Job(NamedTuple):
    """A notebook with its parameters.

    Attributes
    ----------
    notebook, name : stem of the notebook's file, and what its executed copy is called.
    parameters : beside the profile and the folder.
    runs, datasets, files : what it needs: finished runs, prepared data sets, and files of the project.
    outputs : what it writes.
    settings : what of the profile it shows beside.
    alone : whether nothing may run beside it, since it measures time.
    parts : experiments that it finds by name.
    """

    notebook: str
    name: str
    parameters: dict[str, str]
    outputs: tuple[Output, ...]
    runs: tuple[Run, ...] = ()
    datasets: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    settings: tuple = ()
    alone: bool = False
    parts: tuple[str, ...] = ()

    @property
    def source(self) -> Path:
        """The notebook's file."""
        return PROJECT / "notebooks" / f"{self.notebook}.ipynb"

    def executed(self, study: Study) -> Path:
        """Where its executed copy lies."""
        return study.results / "notebooks" / f"{self.name}.ipynb"

    def written(self, study: Study) -> list[Path]:
        """Every file that it writes, its executed copy included."""
        return [self.executed(study), *(file for output in self.outputs for file in output.files(study))]

    @property
    def code(self) -> str:
        """Digest of the code that its outputs depend on beside its runs."""
        return notebook_code(self.source, [f"kdmri_study.experiments.{part}" for part in self.parts])


def mask_files(settings: Iterable[tuple[Dataset, Degradation]]) -> tuple[Path, ...]:
    """The files that the masks of these settings are read from; none where they are generated."""
    return tuple(sorted({file for dataset, degradation in settings if (file := mask_file(dataset, degradation))}))


def _has_people(dataset: Dataset) -> bool:
    """Whether real people are a test set of these images."""
    return dataset.source == "embedded_brain"


def _masks_of(runs: Iterable[Run]) -> tuple[Path, ...]:
    return mask_files((run.dataset, run.degradation) for run in runs)


NOTEBOOKS: dict[str, Callable[..., Job]] = {}


def notebook(name: str) -> Callable:
    """Decorator for the function that declares a notebook by its parameters."""

    def add(declare: Callable[..., Job]) -> Callable[..., Job]:
        NOTEBOOKS[name] = declare
        return declare

    return add


@notebook("00_start_here")
def start_here(study: Study) -> Job:
    """Notebook 00: on the committed weights and real people, so that nothing of the study is needed; it only shows."""
    files = (PROJECT / folder for folder in ("results/models", "data/real"))
    given = sorted(file for folder in files for file in folder.glob("*") if file.is_file())
    return Job("00_start_here", "00_start_here", {}, (), files=tuple(given))


@notebook("01_data_preparation")
def data_preparation(study: Study, dataset: str) -> Job:
    """Notebook 01 of a data set."""
    declared, used = study.dataset(dataset), tuple(study.degradations(dataset).values())
    masks, named = mask_files((declared, degradation) for degradation in used), study.images_of(dataset)
    outputs = (
        table(f"index_{dataset}", f"{named}: volumes", reported=False),
        figure(f"contact_{dataset}", f"{named}: the middle slice of each volume", reported=False),
        figure(f"volumes_{dataset}", f"{named}: prepared volumes"),
        figure(f"power_spectrum_{dataset}", f"{named}: radial power spectrum of each set"),
        figure(f"masks_{dataset}", f"{named}: what of k-space is measured"),
        figure(f"undersampling_{dataset}", f"{study.setting(dataset, used[0])}: from image to zero-filled image"),
        table(f"symmetry_{dataset}", f"{named}: what the symmetry of magnitude images is worth"),
    )
    if _has_people(declared):
        outputs += (
            figure(f"people_{dataset}", f"{named}: nine real people, a test set"),
            figure(f"spectrum_{dataset}", f"{named}: detail of virtual subjects and of real people"),
        )
    name = f"01_data_preparation_{dataset}"
    return Job("01_data_preparation", name, {"dataset": dataset}, outputs, (), (dataset,), masks, used)


def _of_cell(study: Study, cell: Cell, notebook: str, outputs: tuple[Output, ...], files=(), **more) -> Job:
    runs = tuple(run for seed in study.profile.seeds for run in study.methods(cell, seed).values())
    files = (*files, *_masks_of(runs))
    return Job(notebook, f"{notebook}_{cell.tag}", {"cell": cell.tag}, outputs, runs, (cell.dataset,), files, **more)


@notebook("02_teacher_training")
def teacher_training(study: Study, cell: str) -> Job:
    """Notebook 02 of a cell."""
    here = study.cell(cell)
    named = study.setting(here.dataset, here.degradation)
    outputs = (
        figure(f"learning_curves_alone_{cell}", f"{named}: validation PSNR of teacher and student, each trained alone"),
        figure(f"teacher_{cell}", f"{named}: reconstructions by teacher and student, each trained alone"),
        table(f"precision_{cell}", f"{named}: what bfloat16 costs"),
    )
    return _of_cell(study, here, "02_teacher_training", outputs)


@notebook("03_distillation")
def distillation(study: Study, cell: str, scan: str = "") -> Job:
    """Notebook 03 of a cell; with `scan`, the path of a NIfTI volume, of that too."""
    here = study.cell(cell)
    named = study.setting(here.dataset, here.degradation)
    outputs = [
        figure(f"learning_curves_{cell}", f"{named}: validation PSNR of the student, distilled and alone"),
        figure(f"attention_{cell}", f"{named}: attention maps (appendix D)"),
        figure(f"reconstructions_{cell}", f"{named}: reconstructions and residues, of each test set"),
    ]
    if scan:
        outputs += [
            table(f"scan_{cell}", f"{named}: a scan of one's own", reported=False),
            figure(f"scan_{cell}", f"{named}: a scan of one's own"),
        ]
    return _of_cell(study, here, "03_distillation", tuple(outputs))


@notebook("07_deployment")
def deployment(study: Study, cell: str, method: str = "distilled") -> Job:
    """Notebook 07 of a cell; `method` is the row whose network is taken away."""
    here = study.cell(cell)
    named = study.setting(here.dataset, here.degradation)
    if method not in study.methods(here, study.profile.seeds[0]):
        raise StudyError(f"no method '{method}'; known: {', '.join(study.methods(here, study.profile.seeds[0]))}")
    outputs = (
        table(f"deployment_quality_{cell}", f"{named}: what faster ways to compute lose"),
        table(f"deployment_times_{cell}", f"{named}: time per slice", measured=True),
        table(f"deployment_times_paper_size_{cell}", f"{named}: time per slice at 640×368", measured=True),
        figure(f"deployment_times_{cell}", f"{named}: time per slice", measured=True),
    )
    timing = (study.profile.timing_seconds, *study.profile.timing_shape)
    return _of_cell(study, here, "07_deployment", outputs, (PUBLISHED["times"],), settings=timing, alone=True)


def _of_experiment(study: Study, notebook: str, experiment: str, losses: Sequence[str] = (), more=(), files=()) -> Job:
    """A notebook that shows an experiment's parts, on this experiment."""
    declared, outputs, runs = study.experiment(experiment), list(more), []
    named = study.setting(declared.dataset, declared.degradation)
    parts = [PARTS.find(name) for name in study.experiment_parts(experiment, notebook)]
    for part in parts:
        name, title = f"{experiment}_{part.name}", f"{named}: {part.title[0].lower()}{part.title[1:]}"
        outputs += [table(name, title)]
        rows = [study.experiment_rows(experiment, part.name, s, losses) for s in study.experiment_seeds(experiment)]
        tested = part.tabled and part.questions(study.experiment_recipe(experiment, 0), rows[0])
        outputs += [table(f"{name}_significance", f"{title}: tests", reported=False)] if tested else []
        crossed = f"{title}: compute at which training alone reaches the same PSNR"
        outputs += [table(f"{name}_crossings", crossed)] if part.curve else []
        outputs += [figure(f"{name}_{key}", f"{named}: {words}") for key, words in part.figures.items()]
        runs += [row.run for named_rows in rows for row in named_rows.values()]
    own = declared.notebook == notebook
    stem = f"{notebook}_{experiment}" if own else f"{notebook}_on_{experiment}"
    return Job(
        *(notebook, stem, {"experiment": experiment}, tuple(outputs), tuple(runs)),
        datasets=(declared.dataset, *declared.elsewhere),
        files=(*files, *_masks_of(runs)),
        parts=tuple(part.name for part in parts),
    )


@notebook("04_feature_distillation")
def feature_distillation(study: Study, experiment: str, losses: Sequence[str] = ()) -> Job:
    """Notebook 04 of an experiment; `losses` in place of the usual ones."""
    return _of_experiment(study, "04_feature_distillation", experiment, losses)


@notebook("05_ablations")
def ablations(study: Study, experiment: str) -> Job:
    """Notebook 05 of an experiment."""
    return _of_experiment(study, "05_ablations", experiment)


@notebook("06_super_resolution")
def super_resolution(study: Study, experiment: str) -> Job:
    """Notebook 06 of an experiment."""
    declared = study.experiment(experiment)
    named = study.setting(declared.dataset, declared.degradation)
    more = (figure(f"{experiment}_comparison", f"{named}: reconstructions and residues"),)
    files = (PUBLISHED["super_resolution"],)
    return _of_experiment(study, "06_super_resolution", experiment, more=more, files=files)


@notebook("08_when_distillation_pays")
def when_distillation_pays(study: Study, experiment: str) -> Job:
    """Notebook 08 of an experiment."""
    return _of_experiment(study, "08_when_distillation_pays", experiment)


_OF_SEVERAL = (
    figure("figure2", "Reconstructions and residues (Figure 2)"),
    figure("masks", "What of k-space is measured (appendix C)"),
)


@notebook("09_report")
def report(study: Study) -> Job:
    """Notebook 09, after all others."""
    others = list(_before_the_report(study))
    masks = tuple(file for job in others for file in job.files if file not in PUBLISHED.values())
    people = any(_has_people(study.dataset(name)) for name in study.profile.cells)
    outputs = (
        table("table1", "Table 1"),
        table("significance", "Does the paper's order come out?"),
        *([table("people", "Table 1, each real person")] if people else []),
        *([table("domains", "Magnitude images beside complex ones")] if study.arms else []),
        table("evidence", "What the evidence is of, and what it took"),
        # Of one data set, notebooks 01 and 03 show as much.
        *(_OF_SEVERAL if len(study.profile.cells) > 1 else ()),
    )
    runs = tuple(study.runs.values())
    datasets = tuple(study.used_datasets)
    files, settings = (PUBLISHED["table1"], *masks), tuple(study.profile.cells.items())
    return Job("09_report", "09_report", {}, outputs, runs, datasets, files, settings)


def jobs(study: Study) -> Iterator[Job]:
    """Every notebook that the profile asks for, the report last, since it reads what the others left."""
    yield from _before_the_report(study)
    yield report(study)


def _before_the_report(study: Study) -> Iterator[Job]:
    yield start_here(study)
    for dataset in study.used_datasets:
        yield data_preparation(study, dataset)
    for cell in study.cells:
        for declare in (teacher_training, distillation):
            yield declare(study, cell.tag)
    # Of one cell: the networks of the others cost the same, and measuring times takes minutes on an idle machine.
    yield deployment(study, study.cells[0].tag)
    for name, experiment in study.profile.experiments.items():
        yield NOTEBOOKS[experiment.notebook](study, name)


def execute(source: str | Path, output: str | Path, parameters: dict[str, str]) -> None:
    """Run a notebook by papermill with `parameters` and write the executed copy at `output`.

    A parameter is a number, a truth value or a list in YAML, or text; none of it is executed.

    Raises
    ------
    StudyError
        When a parameter isn't declared by the notebook, or a cell fails; then the notebook as far as it came stands
        beside `output` with ".failed" in its name, and `output` isn't written.
    """
    source, output = Path(source), Path(output)
    if not source.exists():
        raise StudyError(f"{source}: no such notebook")
    unknown = set(parameters) - set(papermill.inspect_notebook(str(source)))
    if unknown:
        raise StudyError(f"{source.name} has no parameter {', '.join(sorted(unknown))}")
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    failed = output.with_suffix(".failed.ipynb")
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as temporary:
        try:
            papermill.execute_notebook(
                str(source),
                str(temporary),
                {name: _value(value) for name, value in parameters.items()},
                kernel_name="python3",
                progress_bar=False,
                cwd=str(source.parent),
            )
        except PapermillExecutionError as error:
            temporary.replace(failed)
            raise StudyError(
                f"{source.name}, cell {error.exec_count}: {error.ename}: {error.evalue} (as far as it came: {failed})"
            ) from None
    failed.unlink(missing_ok=True)


def _value(text: str):
    """A parameter as data: a number, a truth value, a list, or the text as it is. Papermill writes it as a literal."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    listed = isinstance(value, list) and all(isinstance(item, str | int | float) for item in value)
    return value if isinstance(value, int | float) or listed else text
