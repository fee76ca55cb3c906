"""What ./run_all.sh makes: the list of tasks that Snakemake runs, and the notebooks among them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT, atomic_write

if TYPE_CHECKING:  # so that a notebook is started without PyTorch, whose import takes seconds
    from kdmri_study.evidence import Job
    from kdmri_study.profile import Study

NOTEBOOKS = PROJECT / "notebooks"


class Page(NamedTuple):
    """A notebook that is executed."""

    notebook: str  # stem of its file
    name: str  # what its executed copy is called
    parameters: dict[str, str]  # of all but notebooks 10 and 11, which need no study, profile and folder are among them
    jobs: str | None = None  # which of the study's jobs it shows: those whose name begins so, all for ""
    datasets: tuple[str, ...] = ()  # names of the data sets that it shows
    alone: bool = False  # whether nothing may run beside it, since it measures time that counts

    @property
    def source(self) -> Path:
        """The notebook's file."""
        return NOTEBOOKS / f"{self.notebook}.ipynb"

    def executed(self, study: Study) -> Path:
        """Where its executed copy lies."""
        return study.results / "notebooks" / f"{self.name}.ipynb"

    def needs(self, jobs: dict[str, Job]) -> list[str]:
        """The jobs that it shows, by name."""
        return [name for name in jobs if self.jobs is not None and name.startswith(self.jobs)]


def pages(study: Study) -> Iterator[Page]:
    """Every notebook of a study, in their order. Those of single settings are executed for the first one: any other is
    their parameter `setting`; so is that of single data sets in a trial, whose numbers mean nothing."""
    where = {"profile": study.source, "folder": str(study.folder)}
    yield Page("00_start_here", "00_start_here", where)
    for dataset in study.used_datasets if study.profile.result else study.used_datasets[:1]:
        name = "01_data_preparation"
        yield Page(name, f"{name}_{dataset}", {**where, "dataset": dataset}, datasets=(dataset,))
    first = study.settings[0]
    for name in ("02_teacher_training", "03_distillation", "07_deployment") if study.profile.seeds else ():
        of = {**where, "setting": first.tag}
        alone = study.profile.result and name.startswith("07")
        yield Page(name, f"{name}_{first.tag}", of, f"{first.tag}_seed", (first.dataset,), alone)
    for experiment, declared in study.profile.experiments.items():
        name = declared.notebook
        of = {**where, "experiment": experiment}
        yield Page(name, f"{name}_{experiment}", of, f"{experiment}_seed", (declared.dataset,))
    yield Page("09_report", "09_report", where, "", tuple(study.profile.settings))
    short = {} if study.profile.result else {"steps": "6", "subjects": "2"}
    yield Page("10_the_paper_on_one_page", "10_the_paper_on_one_page", short)
    tiny = {"wide": "4", "narrow": "2", "extent": "48"}
    yield Page("11_distil_your_own", "11_distil_your_own", {**short, **tiny} if short else {})


def report_page(study: Study) -> Path:
    """The page on which a study's report begins."""
    return study.results / "report" / "index.html"


class Task(NamedTuple):
    """One command of the study's, with the files that it needs and the one that says that it is done."""

    name: str  # by which it can be asked for
    message: str  # what is said while it runs
    inputs: list[Path]
    output: Path
    command: list[str]  # the words after `python -m kdmri_study`
    kind: str = ""  # by what the profile's `resources` call it; empty for what asks a cluster for nothing special
    threads: int = 1  # of one machine's cores
    depends: object = None  # what makes it out of date beside its files


def tasks(study: Study, cores: int) -> Iterator[Task]:
    """All that a study consists of: a task for each data set, job and notebook; tables; the report."""
    from kdmri_lib.datasets.preparing import images_number
    from kdmri_lib.declared import mask_file
    from kdmri_study.evidence import FILES, datasets, jobs
    from kdmri_study.runs import loss_sources

    every, where = jobs(study), ["--profile", study.source, "--folder", str(study.folder)]
    evidence = {name: job.folder(study) / FILES[0] for name, job in every.items()}
    for dataset in datasets(every.values()):
        name, stamp = dataset.file_name.removesuffix(".h5"), study.source_stamp(dataset)
        yield Task(
            f"prepare_{name.replace('-', '_')}",
            f"preparing {dataset.name}",
            [stamp] if stamp.exists() else [],  # touched by `check` when files changed that it was prepared from
            study.prepared(dataset),
            ["prepare", *where, name],
            "prepare",
            cores if dataset.folder else 1,  # files are read side by side; images are generated beside other data sets
            images_number(dataset),
        )
    for name, job in every.items():
        masks = {str(file) for setting in job.settings if (file := mask_file(*setting))}
        yield Task(
            name,
            f"training {name.replace('_', ' ')}",
            [*(study.prepared(dataset) for dataset in datasets([job])), *map(Path, sorted(masks))],
            evidence[name],
            ["train", *where, name],
            "train",
            study.profile.threads,
            # Named by their declarations and by NUMERICS; with how their losses are written.
            [f"{run.id} {loss_sources(run)}" for run in job.runs.values()],
        )
    shown = list(pages(study))
    for page in shown:
        prepared = [study.prepared(study.dataset(name)) for name in page.datasets]
        given = [word for pair in page.parameters.items() for word in ("--parameter", "{}={}".format(*pair))]
        yield Task(
            page.name,
            f"notebook {page.name}",
            [*(evidence[name] for name in page.needs(every)), *prepared, page.source],
            page.executed(study),
            ["notebook", str(page.source), str(page.executed(study)), *given],
            "notebook",
            cores if page.alone else 1,
        )
    tables = study.table("trainings")
    yield Task("tables", "tables", list(evidence.values()), tables, ["tables", *where])
    executed = [page.executed(study) for page in shown]
    yield Task("report", "report", [tables, *executed], report_page(study), ["report", *where])


def execute(source: str | Path, output: str | Path, parameters: dict[str, str]) -> None:
    """Run a notebook by papermill with `parameters` and write the executed copy at `output`.

    A parameter is a number, a truth value or a list in YAML, or text; none of it is executed. `StudyError` when the
    notebook declares no such parameter, or a cell fails; then the notebook as far as it came stands beside `output` with
    ".failed" in its name, and `output` isn't written.
    """
    # Its import would build a grammar, which takes longer than PyTorch's, for a kind of address that no notebook holds.
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    source, output = Path(source), Path(output)
    if not source.exists():
        raise StudyError(f"{source}: no such notebook")
    unknown = set(parameters) - set(papermill.inspect_notebook(str(source)))
    if unknown:
        raise StudyError(f"{source.name} has no parameter {', '.join(sorted(unknown))}")
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    failed = output.with_suffix(".failed.ipynb")
    with atomic_write(output) as temporary, tempfile.TemporaryDirectory(prefix="kdmri-") as sockets:
        # By sockets that are files, whose paths have 107 letters at most: TCP is open to everybody on the machine.
        private = {"transport": "ipc", "ip": f"{sockets}/kernel"} if len(sockets) < 90 else {}
        try:
            papermill.execute_notebook(
                str(source),
                str(temporary),
                {name: _value(value) for name, value in parameters.items()},
                kernel_name="python3",
                progress_bar=False,
                cwd=str(source.parent),
                config=Config(KernelManager=private),
            )
        except DeadKernelError:
            raise StudyError(f"{source.name}: its kernel died (out of memory?)") from None
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
