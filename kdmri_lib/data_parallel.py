"""Training in several processes that share each batch, one a GPU (or some cores) of one machine.

`advance` has torchrun start the workers, and again, from the checkpoint, when one has died; they do nothing but bring a
run's checkpoint to its last step. The process that called it finishes the run from there, as always. Every process computes
the gradient of its share of the batch, and all step by the mean (`training.py`): equal to one process but for the order of
sums.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from kdmri_lib.declarations import Run
from kdmri_lib.errors import NotFinite, Stopped, StudyError
from kdmri_lib.files import alive, read_json, write_json
from kdmri_lib.losses import LOSSES, Objective

RESTARTS = 3
NOT_FINITE = "not_finite.json"
SECONDS_TO_STOP = 60


def processes_for(run: Run, asked: int) -> int:
    """How many of the `asked` processes share the batches of `run`: one where its loss needs the whole batch.

    One too for a loss that only the notebook knows which defines it. `StudyError` when the batch isn't a multiple.
    """
    elsewhere = any(not LOSSES[t.loss].__module__.startswith("kdmri_lib.") for t in run.objective if t.loss in LOSSES)
    if asked == 1 or elsewhere or Objective(run.objective).needs_whole_batch:
        return 1
    if run.schedule.batch % asked:
        raise StudyError(f"run {run.id}: {asked} processes can't share a batch of {run.schedule.batch}; not a multiple")
    return asked


def advance(folder: Path, profile: str, study_folder: Path, processes: int, label: str, stop=lambda: False) -> None:
    """Bring the checkpoint in `folder`, whose declaration.json stands there, to the run's last step.

    Raises
    ------
    NotFinite
        When the loss or the weights became NaN or infinite.
    Stopped
        When `stop` answered true; the checkpoint holds all that was done.
    StudyError
        When workers died more often than they are started again.
    """
    (folder / NOT_FINITE).unlink(missing_ok=True)
    worker = [str(folder), profile, str(study_folder), label, str(os.getpid())]
    stopped, status = False, 1
    for _ in range(1 + RESTARTS):
        stopped, status = _together(processes, worker, stop)
        if stopped or status == 0:
            break
    if (folder / NOT_FINITE).exists():
        found = read_json(folder / NOT_FINITE)
        (folder / NOT_FINITE).unlink()
        raise NotFinite(found["message"], found["rows"])
    if stopped:
        raise Stopped(f"run {folder.name}: stopped; start again to go on from its checkpoint")
    if status:
        raise StudyError(
            f"run {folder.name}: its {processes} processes died {RESTARTS + 1} times; what they said stands above, "
            "and starting again goes on from the checkpoint"
        )


def _together(processes: int, worker: list[str], stop) -> tuple[bool, int]:
    """Run the workers until all have ended; whether `stop` ended them, and torchrun's exit status.

    torchrun ends them all when one dies. It isn't left to start them again, since workers that it restarts may wait for one
    another for ever (seen with torch 2.13 and gloo).
    """
    torchrun = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "--max-restarts",
        "0",
    ]
    process = subprocess.Popen(
        [sys.executable, *torchrun, "-m", "kdmri_lib.data_parallel", *worker],
        # A session of their own: a Ctrl-C reaches this process alone, which passes on one signal.
        start_new_session=True,
        env={"OMP_NUM_THREADS": "1"} | os.environ,
    )
    asked = 0.0
    while process.poll() is None:
        if not asked and stop():
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM)
        if asked and time.monotonic() - asked > SECONDS_TO_STOP:
            process.kill()
        time.sleep(0.1)
    return bool(asked), process.returncode


def _work(folder: Path, profile: str, study_folder: str, label: str, started_by: int) -> None:
    """One of the processes: what torchrun starts."""
    from kdmri_lib.progress import training_progress
    from kdmri_lib.runs import asked_to_stop, train_run, use_threads
    from kdmri_lib.study import Study

    asked = asked_to_stop()
    study = Study(profile, study_folder)
    use_threads(study.profile.threads)
    run = Run.model_validate(read_json(folder / "declaration.json"))
    first = os.environ["RANK"] == "0"
    try:
        with training_progress(label) as progress:
            shown = progress if first else lambda *_: None
            # Workers whose starter was killed would go on beside those of the next start.
            train_run(study, run, folder, shown, stop=lambda: asked() or not alive(started_by))
    except NotFinite as error:
        if first:
            write_json(folder / NOT_FINITE, {"message": str(error), "rows": error.rows})
    except Stopped:
        pass


if __name__ == "__main__":
    _work(Path(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5]))
