"""How far a training has come, in a terminal: whole lines, since several trainings may report side by side."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tqdm.std import tqdm

SECONDS_BETWEEN_LINES = 5

Report = Callable[[int, int, dict], None]  # of steps done, steps in all, and the latest validation
Progress = Callable[[str], AbstractContextManager[Report]]  # of what people call a training


class Lines(tqdm):
    """A progress bar that writes each state as a line of its own, so that bars side by side stay readable."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write the state, as tqdm asks for now and then."""
        self.fp.write(f"{msg or self}\n")
        self.fp.flush()

    def clear(self, nolock: bool = False) -> None:
        """Lines stay."""


@contextmanager
def training_progress(label: str) -> Iterator[Report]:
    """Yield a function that shows how far the training of that name is, and the time left."""
    bar = None

    def report(done: int, steps: int, latest: dict) -> None:
        nonlocal bar
        if bar is None:
            bar = Lines(
                total=steps,
                initial=done - 1,
                desc=label,
                unit="step",
                mininterval=SECONDS_BETWEEN_LINES,
                ncols=110,
            )
        if latest:
            bar.set_postfix_str(f"validation PSNR {latest['validation_psnr']:.2f} dB", refresh=False)
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()
