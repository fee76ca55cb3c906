"""What ./run_all.sh shows in a terminal: one line over all with the time left, a bar for each job at work.

It reads what the workflow and its jobs write, line by line; all of that but the bars goes to a log file.
"""

import re
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kdmri_study.costs import stage
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study

BAR = re.compile(
    r"^(?P<label>.*?): +\d+%\|[^|]*\| *(?P<done>\d+)/(?P<total>\d+) \[[^<]*<(?P<left>[^,\]]*)"
    r"(?:.*, (?P<validation>validation [^\]]*))?"
)
STARTED = re.compile(r"^Job (\d+): (.*)")
FINISHED = re.compile(r"^Finished jobid: (\d+)")
COUNTED = re.compile(r"^(\d+) of (\d+) steps \(")
FAILED = re.compile(r"^\s+jobid: (\d+)")
TRAINING = "training: "


def in_words(seconds: float) -> str:
    """A time to the minute: under a minute, 7 min, 2 h 5 min."""
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min" if minutes else "under a minute"
    return f"{minutes // 60} h {minutes % 60} min"


@dataclass
class At:
    """A job at work: what it is called, since when, how far it is of what, and what it says of it."""

    label: str
    since: float
    done: int = 0
    total: int = 0
    said: str = ""


@dataclass
class Course:
    """Where a workflow stands, from the lines that it writes.

    Attributes
    ----------
    work : multiply-accumulates of each training that isn't there yet, by what people call it.
    side : how many jobs run side by side.
    running, finished, total : jobs at work, by number; how many are finished, of how many.
    """

    work: dict[str, float]
    side: int = 1
    clock: Callable[[], float] = time.monotonic
    running: dict[str, At] = field(default_factory=dict)
    finished: int = 0
    total: int = 0
    spent: dict[bool, float] = field(default_factory=lambda: {True: 0.0, False: 0.0})  # seconds of trainings, of others
    others: int = 0
    trained: float = 0.0
    error: bool = False

    def take(self, line: str) -> str:
        """Take a line; returns what of it a person has to read now, mostly nothing."""
        if found := BAR.match(line.rpartition("\r")[2]):
            for job in self.running.values():
                if found["label"] == job.label:
                    job.done, job.total = int(found["done"]), int(found["total"])
                    job.said = ", ".join(
                        [f"{found['left']} left", *([found["validation"]] if found["validation"] else [])]
                    )
        elif found := STARTED.match(line):
            self.running[found[1]] = At(found[2].removeprefix(TRAINING), self.clock())
        elif found := FINISHED.match(line):
            self._ended(found[1], True)
        elif found := COUNTED.match(line):
            self.finished, self.total = int(found[1]), int(found[2])
        elif line.startswith("Error in rule"):
            self.error = True
        elif self.error and (found := FAILED.match(line)):
            self.error = False
            label = self._ended(found[1], False)
            return f"failed: {label}" if label else ""
        return line if line.startswith("kdmri: ") else ""

    def _ended(self, number: str, well: bool) -> str:
        job = self.running.pop(number, None)
        if job is None:
            return ""
        work = self.work.pop(job.label, None)
        self.spent[work is not None] += self.clock() - job.since
        self.trained += (work or 0) if well else 0
        self.others += work is None
        return job.label

    @property
    def left(self) -> str:
        """The time left in words, from the pace of the trainings and the mean time of other jobs so far."""
        now, trained, spent = self.clock(), self.trained, self.spent[True]
        for job in self.running.values():
            if job.label in self.work:
                trained += self.work[job.label] * job.done / max(job.total, 1)
                spent += now - job.since
        to_train = sum(self.work.values()) + self.trained - trained
        to_do = max(0, self.total - self.finished - len(self.work))
        if (to_train and not trained) or (to_do and not self.others) or not self.total:
            return "time left not known yet"
        seconds = (to_train * spent / trained if to_train else 0) + to_do * self.spent[False] / max(self.others, 1)
        return f"about {in_words(seconds / self.side)} left"


def drawn(course: Course, name: str) -> Table:
    """The line over all, and a bar for each job at work."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(ratio=5, no_wrap=True, overflow="ellipsis")
    table.add_column(width=24)
    table.add_column(ratio=4, no_wrap=True, overflow="ellipsis")
    counted = f"{name}: {course.finished} of {course.total or '…'} jobs"
    table.add_row(Text(counted, "bold"), _bar(course.finished, course.total or None), Text(course.left))
    for job in course.running.values():
        said = job.said or f"{in_words(course.clock() - job.since)} so far"
        table.add_row(Text(f"  {job.label}"), _bar(job.done, job.total or None), Text(said))
    return table


def _bar(done: int, total: int | None) -> ProgressBar:
    return ProgressBar(total=total, completed=done, width=24, pulse=total is None)


def follow(lines: Iterable[str], study: Study, log: Path, side: int = 1, console: Console | None = None) -> None:
    """Show where the workflow of `study` stands until its `lines` end; every line but bars goes to `log`."""
    there = {run.id for run in study.runs.values() if RunFolder(study, run).ended}
    course = Course({study.labels[r.id]: stage(r)[1] for r in study.runs.values() if r.id not in there}, side)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # what is left to say comes after the workflow was asked to stop
    log.parent.mkdir(parents=True, exist_ok=True)
    show = Live(console=console, refresh_per_second=2, get_renderable=lambda: drawn(course, study.name))
    with log.open("w", encoding="utf-8") as file, show as live:
        for line in lines:
            if said := course.take(line.rstrip("\n")):
                live.console.print(Text(said))
            if not BAR.match(line.rpartition("\r")[2]):
                file.write(line)
                file.flush()
    (console or Console()).print(Text(f"all that was said: {log}"))
