"""The pages of the report, as Markdown: written from the study's own lists and from what is there of their outputs.

What isn't there is named in its place, so that a clone without runs has a report too.
"""

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from kdmri_lib.storage import PROJECT, read_json, write_json, write_text
from kdmri_study.answer import answer_table, whole_answer
from kdmri_study.evidence import pieces, recorded
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.in_short import in_short
from kdmri_study.jobs import Job, Output, jobs
from kdmri_study.provenance import PACKAGES, git_commit
from kdmri_study.rendering import capital, failures_markdown, for_reading, plain_markdown, units
from kdmri_study.study import Study

TITLE = "KD-MRI: knowledge distillation for MR reconstruction"
LOOK = "look_inside.html"  # the page of the viewer, beside these
LONG = 30  # rows of a table above which it is folded
WIDGET = "application/vnd.jupyter.widget-view+json"
# What a figure's lines, bands and colours mean, by what its name begins or ends with; the first that fits.
CAPTIONS = {
    r"^contact_|^people_": "Middle slices; grey is magnitude, each on its own scale from 0.",
    r"^volumes_": "A row per volume, its slices evenly spaced; grey is magnitude, 0 to 1.",
    r"spectrum_": "Mean power of a set's slices on rings of spatial frequency.",
    r"^masks": "k-space with zero frequency in the middle; white is measured.",
    r"^undersampling_": "One test slice: its k-space, what of it is measured, what that becomes zero-filled.",
    r"^learning_curves|_curves$": "Validation PSNR per volume: a line is the mean over the seeds, a band their range.",
    r"^figure2|^reconstructions_": "A test slice of each data set or test set, networks of the first seed; a residue is "
    "the absolute difference to the target.",
    r"^teacher_|_comparison$": "One test slice, networks of the first seed; a residue is the "
    "absolute difference to the target.",
    r"^attention_": "One test slice, networks of the first seed: maps over their L2 norm, and their differences.",
    r"_map$|_points$": "PSNR per volume, a mean over the test set.",
    r"^deployment_times_": "Medians of repeated calls.",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)")


def write_pages(study: Study, folder: Path) -> None:
    """Write the pages of a study's report in a folder that isn't there yet, and copies of all they show."""
    for kind in ("figures", "tables", "notebooks", "api"):
        (folder / kind).mkdir(parents=True)
    records = recorded(study)
    notebooks = _Notebooks(study, folder)
    results = _Results(study, folder, records, notebooks.pages)
    *others, last = jobs(study)
    chapters: dict[str, list[Job]] = {}
    for job in sorted((job for job in others if job.outputs), key=lambda job: job.notebook):
        chapters.setdefault(job.notebook.partition("_")[2], []).append(job)
    for name, found in chapters.items():
        write_text(folder / f"{name}.md", results.chapter(found))
    write_text(folder / "runs.md", _runs(study, records))
    write_text(folder / "paper.md", _without_links((PROJECT / "kdmri_lib" / "README.md").read_text(encoding="utf-8")))
    contents = {"Results": [*chapters, "runs"], "Notebooks": notebooks.write(), "Code": ["paper", *_api(folder)]}
    trees = [
        f"```{{toctree}}\n:hidden:\n:caption: {words}\n" + "\n".join(n) + "\n```\n" for words, n in contents.items()
    ]
    write_text(folder / "index.md", "\n".join([results.front(last), *trees]))


def _subject(job: Job) -> str:
    """What a job is about: Brain 4x, Feature losses; nothing for one about the whole study."""
    return capital(" ".join(job.parameters.values()).replace("_", " "))


def _title(notebook: dict) -> str:
    """A notebook's title, with its number."""
    text = next("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    return text.splitlines()[0].lstrip("# ")


def _without_links(text: str, known: dict[str, str] | None = None) -> str:
    """A text whose links to files of the repository are words, but for those to what is `known` here."""
    known = known or {}
    return LINK.sub(lambda m: f"[{m[2]}]({known[m[3]]})" if m[3] in known else m[2], text)


def _unbroken(text: str) -> str:
    """A text whose deviations and intervals stay on one line."""
    return re.sub(r"(?<=\d), (?=[+−]\d+\.\d+\])", ",\u00a0", text.replace(" ± ", "\u00a0±\u00a0"))


class _Results:
    """The pages of tables and figures.

    Attributes
    ----------
    records : what is recorded of each run, by its id.
    pages : the page of each job's notebook, by the job's name.
    """

    def __init__(self, study: Study, folder: Path, records: dict[str, dict], pages: dict[str, str]):
        self.study, self.folder, self.records, self.pages = study, folder, records, pages

    def front(self, last: Job) -> str:
        """The first page: the answer, and what the last notebook writes, Table 1 first."""
        paths = [self.study.table(name) for name in ("table1", "significance")]
        missing = [path for path in paths if not path.exists()]
        answer = self._missing(missing) if missing else _unbroken(self._answer(*map(pd.read_csv, paths)))
        failed = {self.study.labels.get(run, run): r["failed"] for run, r in self.records.items() if r.get("failed")}
        lines = [f"# {TITLE}\n", f"{capital(self.study.stamp)}. {capital(self.study.profile.description)}.\n"]
        look = f'<a href="{LOOK}">Look inside</a>: real people, slice by slice, by the committed networks.\n'
        lines += [look, "## The answer\n", answer, f"(results-{last.name})=", *self._outputs(last, "##")]
        lines += ["## Trainings that failed\n", failures_markdown(failed)]
        lines += [f"Made by [the notebook]({self.pages[last.name]}). This report was built at commit {git_commit()}.\n"]
        return "\n".join(lines)

    def _answer(self, table: pd.DataFrame, tests: pd.DataFrame) -> str:
        path = self.study.table("people")
        words = whole_answer(self.study, table, tests, pd.read_csv(path) if path.exists() else None)
        return f"{in_short(self.study, table, tests)}\n{words}\n{answer_table(table, tests)}"

    def chapter(self, found: Sequence[Job]) -> str:
        """The page of a notebook: a section for each data set, cell or experiment that it ran on."""
        title = _title(read_json(found[0].source)).lstrip("0123456789. ")
        lines = [f"# {title}\n"]
        for job in found:
            named = _subject(job) != title  # an experiment may be called as its notebook is
            lines += [f"(results-{job.name})=", f"## {_subject(job)}\n" if named else "", self._about(job)]
            lines += self._outputs(job, "###" if named else "##")
        return "\n".join(lines)

    def _about(self, job: Job) -> str:
        said = []
        for name in job.datasets:
            data = self.study.dataset(name)
            size = "×".join(map(str, data.shape))
            said.append(
                f"{name}, {size}: {data.train} subjects train, {data.validation} choose checkpoints, {data.test} test."
            )
        return f"{' '.join(said)} Made by [the notebook]({self.pages[job.name]}).\n"

    def _missing(self, paths: Sequence[Path], piece: str = "") -> str:
        names = ", ".join(str(path.relative_to(self.study.folder)) for path in paths)
        command = f"./run_all.sh --profile {self.study.source}{piece and f' {piece}'}"
        return f"```{{note}}\nNot here: {names}. `{command}` makes {'it' if len(paths) == 1 else 'them'}.\n```\n"

    def _outputs(self, job: Job, level: str) -> Iterator[str]:
        """A section for each table and figure that is here; of the others one note."""
        before, missing = "", []
        for output in (o for o in job.outputs if o.kind in ("table", "figure")):
            path = self.study.table(output.name) if output.kind == "table" else self.study.figure(output.name)
            if not path.exists():
                missing.append(path)
                continue
            words = capital(output.title.partition(": ")[2] or output.title)
            if words != before:
                yield f"{level} {words}\n"
            before = words
            yield self._table(output, path) if output.kind == "table" else self._figure(job, output, path)
        if missing:
            yield self._missing(missing, self._first_piece(job))

    def _first_piece(self, job: Job) -> str:
        """Of a profile that is made in pieces: the first one of the job's experiment that isn't there; empty for others."""
        of = [p for p in pieces(self.study) if p.name.rsplit("_seed", 1)[0] == job.parameters.get("experiment")]
        return next((p.name for p in of if self.study.profile.in_pieces and not p.file(self.study).exists()), "")

    def _table(self, output: Output, path: Path) -> str:
        (self.folder / "tables" / path.name).write_bytes(path.read_bytes())
        table, labels = pd.read_csv(path), METHODS
        beside = self.study.table(output.name.removesuffix("_significance"))
        if beside != path and beside.exists() and "label" in (rows := pd.read_csv(beside)):
            labels = dict(zip(rows.method, rows.label, strict=True))
        text = _unbroken(for_reading(table, self.study.stamp, labels))
        if len(table) > LONG and "\n**" not in text:
            text = f"<details><summary>{len(table)} rows</summary>\n\n{text}\n</details>\n"
        names = path.with_suffix(".runs.txt")
        runs = [line for line in names.read_text().splitlines() if line[:1] != "#"] if names.exists() else []
        return f"{text}\n{{download}}`CSV <tables/{path.name}>`. {self._origin(runs)}\n"

    def _figure(self, job: Job, output: Output, path: Path) -> str:
        (self.folder / "figures" / path.name).write_bytes(path.read_bytes())
        with Image.open(path) as picture:
            made_from = picture.text.get("Description", "").partition("made from runs: ")[2]
        runs = [name for name in made_from.split(", ") if name not in ("", "none")]
        said = [next((words for name, words in CAPTIONS.items() if re.search(name, output.name)), "")]
        sets = [(name, self.study.dataset(name)) for name in job.datasets if runs]
        said += [f"Of {name}: {data.validation} validation and {data.test} test subjects." for name, data in sets]
        words = " ".join([f"{output.title}.", *filter(None, said)])
        head = f"```{{figure}} figures/{path.name}\n:alt: {words}\n:target: _images/{path.name}\n\n"
        return f"{head}{words}\n\n{self._origin(runs)}\n```\n"

    def _origin(self, names: Sequence[str]) -> str:
        """From which runs something is, of how many seeds, by which commit and machine; the runs by name."""
        if not names:
            return "Made without a training."
        runs = [self.study.runs[name] for name in names if name in self.study.runs]
        known = [self.records[name] for name in names if name in self.records]
        text = f"From {units(len(names), 'run')}" + (
            f" of {units(len({r.seed for r in runs}), 'seed')}" if runs else ""
        )
        if known:
            commits, machines, precisions = (
                [*dict.fromkeys(r[k] for r in known)] for k in ("commit", "processor", "precision")
            )
            more = f" and {len(commits) - 3} more" if len(commits) > 3 else ""
            text += (
                f", trained by commit {', '.join(commits[:3])}{more} on {'; '.join(machines)}, {', '.join(precisions)}"
            )
        else:
            text += ", of which nothing is recorded here"
        places = [f'<a href="runs.html#{n}">{html.escape(self.study.labels.get(n, n))}</a>' for n in names]
        return f'{text}.\n\n<details class="runs"><summary>The runs</summary>{"; ".join(places)}</details>'


def _runs(study: Study, records: dict[str, dict]) -> str:
    """A row for each run of the study."""
    rows = []
    for name, run in study.runs.items():
        found, columns = records.get(name, {}), ("precision", "processor", "device", "commit", "python")
        label = f'<span id="{name}"></span>{html.escape(study.labels[name])}'
        libraries = {"torch": found.get("libraries", {}).get("torch")}
        state = "failed" if found.get("failed") else "finished" if found else "not here"
        rows.append(
            {"run": label, "folder": name, "seed": run.seed, "time / s": found.get("seconds"), "state": state}
            | {key: found.get(key) for key in columns}
            | libraries
        )
    table = plain_markdown(pd.DataFrame(rows))
    return f"# Runs\n\nA run is one training; its folder is named by the content of its declaration.\n\n{table}"


class _Notebooks:
    """The notebooks' pages: as each was executed, or as it is written where no executed copy is here.

    Attributes
    ----------
    pages : the page of each job's notebook, by the job's name.
    """

    def __init__(self, study: Study, folder: Path):
        self.folder = folder / "notebooks"
        self.jobs = list(jobs(study))
        self.executed = {job.name: job.executed(study) for job in self.jobs if job.executed(study).exists()}
        self.pages = {
            job.name: f"notebooks/{job.name if job.name in self.executed else job.notebook}.ipynb" for job in self.jobs
        }

    def write(self) -> list[str]:
        """Write all of them; returns what the contents list, in the notebooks' order."""
        found = []
        for source in sorted((PROJECT / "notebooks").glob("*.ipynb")):
            of = [job for job in self.jobs if job.notebook == source.stem]
            executed = [job for job in of if job.name in self.executed]
            for job in executed:
                found.append(self._page(self.executed[job.name], [job], _subject(job)))
            if len(executed) < len(of) or not of:
                found.append(self._page(source, [job for job in of if job not in executed], ""))
        return found

    def _page(self, path: Path, of: Sequence[Job], subject: str) -> str:
        """Write a notebook's page; returns its line in the contents."""
        notebook, place, cells = read_json(path), "", []
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
                place = headings[-1] if headings else place
                cell = {**cell, "source": _without_links(text, self._known())}
            else:
                alternative = {"image": {"alt": f"Picture under the heading “{place}”"}}
                outputs = [self._shown(o) for o in cell["outputs"] if WIDGET not in o.get("data", {})]
                cell = {**cell, "outputs": outputs, "metadata": {**cell["metadata"], "mystnb": alternative}}
            cells.append(cell)
        back = (
            ", ".join(f"[{_subject(job) or 'the report'}](#results-{job.name})" for job in of if job.outputs)
            or "[the report](../index.md)"
        )
        said = "" if self.executed.keys() & {job.name for job in of} else " As it is written: no executed copy is here."
        links = {"cell_type": "markdown", "metadata": {}, "source": f"← {back}.{said}", "id": "back"}
        write_json(self.folder / path.name, {**notebook, "cells": [cells[0], links, *cells[1:]]})
        return f"{_title(notebook)}{': ' if subject else ''}{subject} <notebooks/{path.stem}>"

    def _shown(self, output: dict) -> dict:
        """A cell's output, whose links lead to pages of the report where there are such."""
        if "text/markdown" not in output.get("data", {}):
            return output
        text = _without_links("".join(output["data"]["text/markdown"]), self._known())
        return {**output, "data": {**output["data"], "text/markdown": text}}

    def _known(self) -> dict[str, str]:
        """Where links from one notebook to another lead here: to the first page of it."""
        first: dict[str, str] = {}
        for job in self.jobs:
            first.setdefault(f"{job.notebook}.ipynb", Path(self.pages[job.name]).name)
        return {p.name: p.name for p in (PROJECT / "notebooks").glob("*.ipynb")} | first


def _api(folder: Path) -> Iterator[str]:
    """Write a page for each package, from its modules' docstrings; yields their names."""
    for package in PACKAGES:
        for init in sorted((PROJECT / package).rglob("__init__.py")):
            name = ".".join(init.parent.relative_to(PROJECT).parts)
            modules = [f"{name}.{f.stem}" for f in sorted(init.parent.glob("*.py")) if not f.stem.startswith("__")]
            lines = [f"# {name}\n", f"```{{eval-rst}}\n.. automodule:: {name}\n   :no-members:\n```\n"]
            for module in modules:
                lines += [f"## {module}\n", f"```{{eval-rst}}\n.. automodule:: {module}\n```\n"]
            write_text(folder / "api" / f"{name}.md", "\n".join(lines))
            yield f"api/{name}"
