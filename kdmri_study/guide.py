"""The way through the notebooks: what each teaches, how long it takes, which comes before and after.

It stands at the top of each notebook, in the README and in notebook 00, written by `python -m kdmri_lib readme`; how long
they take is measured, and kept in `results/notebook_minutes.csv` by `python -m kdmri_lib minutes`.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT, atomic_write, read_json, write_text
from kdmri_study.jobs import jobs
from kdmri_study.provenance import processor_name
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study, with_needs

FOLDER = PROJECT / "notebooks"
MINUTES = PROJECT / "results" / "notebook_minutes.csv"
HEAD = re.compile(r"<!-- guide -->\n.*?<!-- end -->", re.DOTALL)
SHOWN = ("smoke", "quick")  # profiles whose times are said


class Stop(NamedTuple):
    """A notebook on the way: the stem of its file, its title, and what a reader learns there."""

    notebook: str
    title: str
    learn: str


WAY = (
    Stop(
        "00_start_here",
        "Start here",
        "what undersampling does to an image, what teacher and student make of it, and what the study found",
    ),
    Stop(
        "01_data_preparation",
        "Data preparation",
        "whose images these are, how k-space is undersampled, and what is lost by it",
    ),
    Stop(
        "02_teacher_training",
        "Teacher training",
        "how DC-CNN reconstructs, what data consistency keeps, and what a small network loses that trains alone",
    ),
    Stop(
        "03_distillation",
        "Attention transfer and imitation",
        "how a teacher helps a student, whether that beats training longer, and how to try a scan of your own",
    ),
    Stop(
        "04_feature_distillation",
        "Which feature loss?",
        "how six ways to learn from a teacher's features compare, and how to add a loss of your own",
    ),
    Stop(
        "05_ablations",
        "Ablations",
        "which part of the method does the work, where features are best compared, and how small a student may be",
    ),
    Stop("06_super_resolution", "Super-resolution", "how the same method does on another task, with another network"),
    Stop(
        "07_deployment",
        "Deployment",
        "how much smaller and faster the student is, and what each faster way to compute it loses",
    ),
    Stop(
        "08_when_distillation_pays",
        "When does distillation pay?",
        "what a good start is worth, when longer training does as well, and what a teacher is worth where truth is missing",
    ),
    Stop("09_report", "Table 1, and what it says", "how the paper's comparison comes out here, and how sure that is"),
)


def path_of(notebook: str) -> Path:
    """The file of a notebook."""
    return FOLDER / f"{notebook}.ipynb"


def there() -> list[Stop]:
    """The stops of the way, by the files that are there; `StudyError` where one isn't on the way."""
    stems, known = {path.stem for path in FOLDER.glob("*.ipynb")}, {stop.notebook for stop in WAY}
    if stems != known:
        raise StudyError(
            f"{FOLDER}: notebooks that kdmri_study/guide.py doesn't know, or that are gone: {stems ^ known}"
        )
    return sorted(WAY)


def measured(study: Study) -> pd.DataFrame:
    """How long each notebook of a study that was executed takes by itself: its execution, and what it needs trained.

    Of a notebook that was executed with several parameters the first counts. Nothing is measured anew: run folders and
    executed copies say it.

    Raises
    ------
    StudyError
        When no notebook of the study was executed.
    """
    rows: dict[str, dict] = {}
    for job in jobs(study):
        executed = job.executed(study)
        if job.notebook in rows or not executed.exists():
            continue
        record = read_json(executed)["metadata"]["papermill"]
        begun, seconds = datetime.fromisoformat(record["start_time"]).timestamp(), record["duration"]
        for run in with_needs(job.runs if job.notebook != "09_report" else ()).values():
            folder = RunFolder(study, run)
            if (folder.path / "run.json").stat().st_mtime < begun:  # what the notebook trained is in its own time
                seconds += folder.record["seconds"]
        rows[job.notebook] = {"profile": study.name, "minutes": round(seconds / 60, 2)}
    if not rows:
        raise StudyError(
            f"{study.results / 'notebooks'}: none was executed; ./run_all.sh --profile {study.source} does it"
        )
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("notebook").reset_index()
    return table.assign(processor=processor_name())


def write_minutes(study: Study, path: Path = MINUTES) -> Path:
    """Put a study's times in the place of those that were there; returns the file."""
    table = measured(study)
    if path.exists():
        table = pd.concat([table, pd.read_csv(path)]).drop_duplicates(["notebook", "profile"])
    with atomic_write(path) as temporary:
        table.sort_values(["notebook", "profile"]).to_csv(temporary, index=False)
    return path


def _minutes(notebook: str, profile: str, table: pd.DataFrame) -> str:
    """How long it takes, in words; empty where nobody measured it."""
    found = table[(table.notebook == notebook) & (table.profile == profile)]
    if found.empty:
        return ""
    minutes = found.minutes.iloc[0]
    return "1 minute" if minutes < 1.5 else f"{minutes:.0f} minutes"


def _takes(notebook: str, table: pd.DataFrame) -> str:
    times = {profile: _minutes(notebook, profile, table) for profile in SHOWN}
    said = [f"{time} at profile {profile}" for profile, time in times.items() if time]
    return f"**It takes** {', '.join(said)}, with all that it trains, on one core." if said else ""


def head(notebook: str) -> str:
    """What stands below a notebook's title: the way, what one learns, and how long it takes."""
    way, table = there(), pd.read_csv(MINUTES)
    at = [stop.notebook for stop in way].index(notebook)
    links = [f"[← {_name(way[at - 1])}]({way[at - 1].notebook}.ipynb)"] if at else []
    links += [f"[{_name(way[at + 1])} →]({way[at + 1].notebook}.ipynb)"] if at + 1 < len(way) else []
    lines = [" · ".join(links), "", f"**You will learn** {way[at].learn}.", "", _takes(notebook, table)]
    return "\n".join(lines).strip()


def _name(stop: Stop) -> str:
    return f"{int(stop.notebook[:2])} {stop.title}"


def map_of_notebooks(place: str = "") -> str:
    """All notebooks as a Markdown table, with links that begin with `place`, and their times."""
    table = pd.read_csv(MINUTES)
    shown = [profile for profile in SHOWN if profile in set(table.profile)]
    lines = [f"| notebook | you will learn | {' | '.join(shown)} |", "|---" * (2 + len(shown)) + "|"]
    for stop in there():
        times = [
            _minutes(stop.notebook, profile, table).replace("minute", "min").replace("mins", "min") or "–"
            for profile in shown
        ]
        lines.append(f"| [{_name(stop)}]({place}{stop.notebook}.ipynb) | {stop.learn} | {' | '.join(times)} |")
    where = ", ".join(sorted({*table.processor}))
    return "\n".join(lines) + (
        f"\n\nMinutes of each alone, with all that it trains, on one core: {where}.\n" if where else "\n"
    )


def heads() -> Iterator[tuple[Path, str, str]]:
    """(file, first cell as it stands, as it should) of each notebook; `StudyError` where one has no place for it."""
    for stop in there():
        path = path_of(stop.notebook)
        first = "".join(read_json(path)["cells"][0]["source"])
        if not HEAD.search(first):
            raise StudyError(f"{path}: its first cell holds no <!-- guide --> ... <!-- end -->")
        yield path, first, HEAD.sub(lambda _, n=stop.notebook: f"<!-- guide -->\n{head(n)}\n<!-- end -->", first)


def write_heads() -> list[str]:
    """Write all heads anew; the names of the notebooks that changed."""
    changed = []
    for path, is_, should in list(heads()):
        if is_ != should:
            notebook = json.loads(path.read_text(encoding="utf-8"))
            notebook["cells"][0]["source"] = should.splitlines(keepends=True)
            write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
            changed.append(path.stem)
    return changed
