"""How a notebook's trainings come along: one output, written anew as they go on, which ends as a single line.

It is plain HTML under a display's id, so that an executed copy of the notebook holds how it ended and not a bar at 0%.
"""

import html
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from IPython import get_ipython
from IPython.display import display

from kdmri_lib.declarations import Run
from kdmri_study.costs import stage
from kdmri_study.progress import Report

SECONDS_BETWEEN = 0.5


def in_kernel() -> bool:
    """Whether this is the kernel of a notebook."""
    return hasattr(get_ipython(), "kernel")


def in_words(seconds: float) -> str:
    """A time for reading: 35 s, 4 min 5 s, 2 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


@dataclass
class Pace:
    """How long what is left will take, from the work done since the first look: any unit of work."""

    total: float
    done: float = 0.0
    before: float = 0.0  # done by an earlier process
    started: float = field(default_factory=time.monotonic)

    @property
    def share(self) -> float:
        """The share of the work that is done, 0 to 1."""
        return self.done / self.total if self.total else 1.0

    @property
    def left(self) -> str:
        """The time left, in words."""
        here = self.done - self.before
        if here <= 0:
            return "time left not known yet"
        return f"{in_words((time.monotonic() - self.started) * (self.total - self.done) / here)} left"


class Lines:
    """Lines of text with a bar under each, in the place of one output of a cell."""

    def __init__(self, lines: Mapping[str, float | None]):
        self.lines = dict(lines)
        self._handle = display(self, display_id=True)

    def show(self, lines: Mapping[str, float | None]) -> None:
        """Put these lines in the place of those before; each with the share that its bar shows, None for no bar."""
        self.lines = dict(lines)
        self._handle.update(self)

    def _repr_html_(self) -> str:
        bars = {
            text: "" if share is None else f'<progress value="{share:.4f}" max="1" style="width:100%"></progress>'
            for text, share in self.lines.items()
        }
        return "".join(f"<div>{html.escape(text)}{bar}</div>" for text, bar in bars.items())

    def __repr__(self) -> str:
        return "\n".join(self.lines)


class Trainings:
    """The trainings that a cell waits for, as it shows them.

    Parameters
    ----------
    runs : those that aren't there yet, by what people call them, in their order. Work is counted in multiply-accumulates
        (`costs.stage`), since their steps cost unlike amounts.
    """

    def __init__(self, runs: Mapping[str, Run]):
        self._work = {label: stage(run)[1] for label, run in runs.items()}
        self._count, self._finished = len(runs), 0
        self._pace = Pace(sum(self._work.values()))
        self._lines = Lines({self._heading(): 0.0})

    def _heading(self) -> str:
        return f"Training {min(self._finished + 1, self._count)} of {self._count} · {self._pace.left}"

    @contextmanager
    def one(self, label: str) -> Iterator[Report]:
        """Show the training called `label` while the block runs."""
        pace, whole, shown, work = None, self._pace.done, 0.0, self._work.get(label, 0.0)

        def report(done: int, steps: int, latest: dict) -> None:
            nonlocal pace, shown
            if pace is None:
                pace = Pace(steps, done - 1, done - 1)
                self._pace.before += work * pace.share
            pace.done = done
            self._pace.done = whole + work * pace.share
            if time.monotonic() - shown < SECONDS_BETWEEN and done < steps:
                return
            shown = time.monotonic()
            psnr = f" · validation PSNR {latest['validation_psnr']:.2f} dB" if latest else ""
            current = f"{label}: step {done:,} of {steps:,}{psnr} · {pace.left}"
            self._lines.show({self._heading(): self._pace.share, current: pace.share})

        yield report
        self._pace.done = whole + work
        self._finished += 1

    def end(self) -> None:
        """Say in one line how they ended."""
        took = in_words(time.monotonic() - self._pace.started)
        networks = "network" if self._count == 1 else "networks"
        trained = self._count if self._finished == self._count else f"{self._finished} of {self._count}"
        self._lines.show({f"Trained {trained} {networks} in {took}.": None})
