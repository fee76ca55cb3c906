"""Run folders: trained once by whoever needs them first, under a lock, and loaded by everyone else."""

import inspect
import math
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import safetensors.torch
from filelock import FileLock, Timeout
from torch import nn
from tqdm.auto import tqdm

from kdmri_lib import training
from kdmri_lib.datasets.prepared import Slices, attribute, read_prepared, test_volumes
from kdmri_lib.datasets.preparing import Preparation, prepare
from kdmri_lib.declarations import Dataset, Run
from kdmri_lib.declared import declared_network, declared_operator, mask_file, training_step
from kdmri_lib.devices import computed_on
from kdmri_lib.errors import NotFiniteError, StoppedError, StudyError
from kdmri_lib.evaluation import METRICS, evaluate
from kdmri_lib.losses.base import LOSSES, Loss
from kdmri_lib.losses.objective import Objective
from kdmri_lib.models.base import Model
from kdmri_lib.storage import PROJECT, atomic_write, digest_json, read_json, sha256_file, write_bytes, write_json

WEIGHTS, CURVE, VOLUMES, SLICES = "weights.safetensors", "curve.csv", "metrics_volume.csv", "metrics_slice.csv"
SITTING = "sitting.json"  # when the training went on last, and for how long it had gone before
DONE = ("finished", "failed")  # states in which a run has nothing left to do


# Where a number came from.


def git_commit() -> str:
    """The checkout's commit, with "+changes" when code differs from it; "unknown" outside a checkout."""
    code = ["kdmri_lib", "kdmri_study", "notebooks", "profiles", "constraints.txt"]
    commands = (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "--", *code])
    try:
        commit, changes = (
            subprocess.check_output(["git", "-C", PROJECT, *c], stderr=subprocess.DEVNULL, text=True) for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + ("+changes" if changes else "")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """Marketing name of the CPU where the system tells it, and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{name}, {cores()} cores"


def loss_sources(run: Run) -> dict[str, str]:
    """Digest by name of how each loss of a run is written, so that one that is changed, in a notebook or a file, isn't
    taken for what it was."""
    return {name: _source(LOSSES.find(name)) for name in sorted({term.loss for term in run.objective})}


@cache
def _source(loss: type[Loss]) -> str:
    parts = []
    for cls in loss.__mro__[: loss.__mro__.index(Loss)]:
        for name, value in vars(cls).items():
            value = getattr(value, "__func__", getattr(value, "fget", value))  # of class methods and of properties
            if inspect.isfunction(value):
                parts.append(inspect.getsource(value))
            elif not name.startswith("__") and isinstance(value, str | int | float | tuple):
                parts.append(f"{name} {value!r}")
    return digest_json(parts)[:12]


# What a run leaves.


def load_weights(path: Path) -> dict:
    """Read a safetensors file; nothing in it is executed. `StudyError` when it is missing, damaged or a pickle."""
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise StudyError(f"{path}: not a safetensors file, or cut short ({error})") from None


class Outcome(NamedTuple):
    """What is known of a run without its weights."""

    record: dict  # its id, measured seconds, processor, device, precision, commit, and how it failed, if it did
    curve: pd.DataFrame  # a row per validation: `kdmri_lib.training.CURVE_COLUMNS`, PSNR in dB
    volumes: pd.DataFrame  # metrics on all test sets, as `kdmri_lib.evaluation.evaluate` gives them
    slices: pd.DataFrame  # and per slice

    @property
    def failed(self) -> str:
        """How the run's numbers went wrong; empty where they didn't."""
        return self.record.get("failed", "")

    def validation(self, run: Run) -> float:
        """PSNR (dB) of the checkpoint that was kept, on the validation subjects; NaN of a run that failed, and of one that
        holds lines out: its validation was of images from fewer lines."""
        if self.failed or Objective(run.objective).held_out:
            return math.nan
        # One that judges no image is kept by its objective.
        by_image = self.curve.validation_objective.isna().all()
        score = self.curve.validation_psnr if by_image else -self.curve.validation_objective
        return float(self.curve.validation_psnr[score.idxmax()])


class RunFolder:
    """The folder of a run: its `record` (run.json), weights, curve and metrics.

    A run whose numbers went wrong is finished too, and `failed` says how. Its curve ends in NaN, its metrics and weights
    are NaN, so that whatever is made from them is a hole and not a number.

    `study` : has `results`, and `prepared(dataset)`, where a data set's prepared file lies.
    """

    def __init__(self, study, run: Run):
        self.study, self.run = study, run
        self.path: Path = study.results / "runs" / run.id
        self.weights = self.path / WEIGHTS  # the file that the trained weights lie in

    @property
    def inputs(self) -> dict:
        """What the result depends on beside the declaration: losses' sources, mask, data, other runs' weights."""
        file = mask_file(self.run.dataset, self.run.undersampling)
        return {
            "losses": loss_sources(self.run),
            "mask": sha256_file(file) if file and file.exists() else "",
            "data": attribute(self.study.prepared(self.run.dataset), "content"),
            "needs": {r.id: RunFolder(self.study, r).checksum() for r in self.run.needs},
        }

    def checksum(self) -> str:
        """SHA-256 of the weights, or how the run failed."""
        return self.failed or sha256_file(self.weights)

    @property
    def ended(self) -> bool:
        """Whether its training came to an end, finished or failed; whether it is up to date isn't asked (`state`)."""
        return (self.path / "run.json").exists()

    def state(self, inputs: bool = True) -> str:
        """ "finished" or "failed", or why it is neither: "missing", "out of date" (not asked without `inputs`), or which
        file is damaged."""
        if not self.ended:
            return "missing"
        try:
            found = read_json(self.path / "run.json")
            if inputs and found["inputs"] != self.inputs:
                return "out of date"
            for name, checksum in found["files"].items():
                if not (self.path / name).exists() or sha256_file(self.path / name) != checksum:
                    return f"{name} is damaged"
        except (StudyError, KeyError, OSError) as error:
            return f"run.json is damaged ({error})"
        return "failed" if found.get("failed") else "finished"

    @property
    def record(self) -> dict:
        """What run.json says: inputs, checksums, device, precision, seconds, commit, libraries."""
        return read_json(self.path / "run.json")

    @property
    def failed(self) -> str:
        """How the run's numbers went wrong; empty where they didn't."""
        return self.record.get("failed", "")

    @property
    def outcome(self) -> Outcome:
        """Its record, curve and metrics."""
        record = {k: v for k, v in self.record.items() if k not in ("inputs", "files")}
        tables = (pd.read_csv(self.path / name) for name in (CURVE, VOLUMES, SLICES))
        return Outcome({"run": self.run.id, **record}, *tables)

    def network(self) -> Model:
        """The trained network, on the CPU, in evaluation mode; all NaN of a run that failed."""
        network = declared_network(self.run)
        if self.failed:
            for parameter in network.parameters():
                nn.init.constant_(parameter, math.nan)
        else:
            network.load_state_dict(load_weights(self.weights))
        return network.eval()


# Preparing and training.


def prepare_dataset(study, dataset: Dataset, jobs: int = 1) -> Preparation:
    """Prepare a data set where it isn't there or up to date; under a lock, since several jobs may want it."""
    path = study.prepared(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        return prepare(dataset, path, jobs)


def trained(study, run: Run, label: str = "", stop: Callable[[], bool] = lambda: False) -> RunFolder:
    """The finished folder of `run`: loaded where it is whole and up to date, trained (after what it needs) otherwise.

    A run whose numbers go wrong comes back too, with `failed` saying how.
    """
    folder = RunFolder(study, run)
    for needed in run.needs:
        trained(study, needed, f"{label}, a stage before", stop)
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder.path / ".lock").acquire(cancel_check=stop)  # another job may be training it
    except Timeout:
        raise StoppedError(f"run {run.id}: stopped while another process trains it") from None
    with lock:
        if folder.state() not in DONE:
            _train(folder, label or run.id, stop)
    if folder.failed:
        print(f"kdmri: {folder.failed}; to try again, delete {folder.path}", file=sys.stderr)
    return folder


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int, dict], None]]:
    """A training's progress bar, where somebody looks: in a notebook, or a terminal."""
    with tqdm(desc=label, unit="step", leave=False, disable=None) as bar:

        def show(done: int, steps: int, latest: dict) -> None:
            bar.total, bar.n = steps, done
            if latest:
                bar.set_postfix_str(f"{latest['validation_psnr']:.2f} dB", refresh=False)
            bar.update(0)

        yield show


def _train(folder: RunFolder, label: str, stop) -> None:
    study, run, inputs = folder.study, folder.run, folder.inputs
    data = study.prepared(run.dataset)
    checkpoint, begun = folder.path / "checkpoint.pt", folder.path / "begun.json"
    (folder.path / "run.json").unlink(missing_ok=True)
    for partial in folder.path.glob(".*.partial*"):  # of a process that was killed while it wrote
        partial.unlink()
    # A checkpoint goes on only with what it began with.
    if checkpoint.exists() and (not begun.exists() or read_json(begun) != inputs):
        checkpoint.unlink()
    write_json(begun, inputs)
    write_json(folder.path / "declaration.json", run.model_dump(mode="json"))
    before = _seconds_before(folder.path, checkpoint)
    started = time.monotonic()
    failed = ""
    try:
        networks = {}
        for needed in (RunFolder(study, r) for r in run.needs):
            if needed.failed:
                raise NotFiniteError(f"run {run.id}: it needs one that failed ({needed.failed})")
            networks[needed.run.id] = needed.network()
        step = training_step(run, *(networks[r.id] if r else None for r in (run.teacher, run.start)))
        slices, validation = Slices(data, "train", subjects=run.subjects), list(read_prepared(data, "validation"))
        truths = None if run.truths is None else slices.of_first(run.truths)
        with _bar(label) as bar:
            network, curve = training.train(
                *(f"run {run.id}", step, run.schedule, run.seed, slices, validation, checkpoint, truths, bar, stop)
            )
    except NotFiniteError as error:
        # Validations, and the step that it ended at, where all is NaN.
        rows = error.rows or [{"step": 0}]
        network, curve, failed = None, pd.DataFrame(rows, columns=training.CURVE_COLUMNS), str(error)
    if not failed:
        contiguous = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        write_bytes(folder.weights, safetensors.torch.save(contiguous, {"run": run.id}))
        # Measured is what whoever loads the weights has: a training may leave more in its network than weights.
        network = declared_network(run)
        network.load_state_dict(load_weights(folder.weights))
        network.eval()
    operator = declared_operator(run.dataset, run.undersampling)
    volumes, slices = evaluate(network, operator, test_volumes(data))
    if not failed and volumes[list(METRICS)].isna().any(axis=None):
        failed = f"run {run.id}: a reconstruction of the test set holds NaN or infinite values"
    tables = {CURVE: curve, VOLUMES: volumes, SLICES: slices}
    for name, table in tables.items():
        if failed and name != CURVE:
            table[list(METRICS)] = math.nan
        with atomic_write(folder.path / name) as temporary:
            table.to_csv(temporary, index=False)
    files = tables if failed else (WEIGHTS, *tables)
    record = {
        **({"failed": failed} if failed else {}),
        **{"inputs": inputs, "files": {name: sha256_file(folder.path / name) for name in files}},
        **computed_on(run.precision),
        **{"seconds": round(before + time.monotonic() - started, 1), "commit": git_commit()},
        **{"processor": processor_name(), "python": platform.python_version(), "torch": metadata.version("torch")},
    }
    # Last, since it is what says that the run is finished.
    write_json(folder.path / "run.json", record)
    # Of one that failed, an earlier training's weights go and the last good checkpoint stays.
    left = [folder.weights] if failed else [checkpoint, begun, folder.path / SITTING]
    for file in (*left, folder.path / training.OUTPUTS):
        file.unlink(missing_ok=True)


def _seconds_before(path: Path, checkpoint: Path) -> float:
    """For how long a run had been trained up to the checkpoint that it goes on from, in all sittings; a new one begins."""
    last, before = path / SITTING, 0.0
    if checkpoint.exists() and last.exists():
        told = read_json(last)
        before = told["before"] + max(0.0, checkpoint.stat().st_mtime - told["began"])
    write_json(last, {"before": before, "began": time.time()})
    return before


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """While the block runs, take SIGINT and SIGTERM as a wish to stop; yields whether one has come."""
    asked = []
    before = {
        number: signal.signal(number, lambda *_: asked.append(True)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
