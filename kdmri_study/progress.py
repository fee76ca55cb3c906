"""How far a training has come: a bar in a notebook, whole lines in a terminal, where several trainings may report."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm as notebook_or_terminal
from tqdm.std import tqdm

SECONDS_BETWEEN_LINES = 5


class Lines(tqdm):
    """A progress bar that writes each state as a line of its own, so that bars side by side stay readable."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write the state, as tqdm asks for now and then."""
        self.fp.write(f"{msg or self}\n")
        self.fp.flush()

    def clear(self, nolock: bool = False) -> None:
        """Lines stay."""


@contextmanager
def training_progress(label: str) -> Iterator[Callable[[int, int, dict], None]]:
    """Yield a function of (steps done, steps in all, the latest validation) that shows both, and the time left."""
    in_notebook = "ipykernel" in sys.modules
    bar = None

    def report(done: int, steps: int, latest: dict) -> None:
        nonlocal bar
        if bar is None:
            # In a notebook as wide as its cell: there a width in columns is one in pixels.
            kind, interval, width = (
                (notebook_or_terminal, 0.5, None) if in_notebook else (Lines, SECONDS_BETWEEN_LINES, 110)
            )
            bar = kind(total=steps, initial=done - 1, desc=label, unit="step", mininterval=interval, ncols=width)
        if latest:
            bar.set_postfix_str(f"validation PSNR {latest['validation_psnr']:.2f} dB", refresh=False)
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
