"""Run folders: trained once by whoever needs them first, under a lock, and loaded by everyone else."""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import pandas as pd
import safetensors.torch
from filelock import FileLock
from torch import nn
from tqdm import tqdm

from kdmri_lib import training
from kdmri_lib.answers import forget
from kdmri_lib.datasets.prepared import Slices, content_checksum, read_prepared, test_volumes
from kdmri_lib.datasets.preparing import Preparation, prepare
from kdmri_lib.declarations import Run
from kdmri_lib.devices import computed_on
from kdmri_lib.errors import NotFiniteError, StudyError
from kdmri_lib.evaluation import METRICS, evaluate
from kdmri_lib.losses.objective import Objective
from kdmri_lib.models.base import Model
from kdmri_lib.overview import write_overview
from kdmri_lib.storage import atomic_write, digest_json, read_json, sha256_file, write_bytes, write_json
from kdmri_study.build import declared_network, declared_operator, mask_file, training_step
from kdmri_study.progress import Progress, training_progress
from kdmri_study.provenance import environment, preparing_code, training_code
from kdmri_study.study import Study

SITTING = "sitting.json"  # when the training went on last, and for how long it had gone before
WEIGHTS, CURVE, VOLUMES, SLICES = "weights.safetensors", "curve.csv", "metrics_volume.csv", "metrics_slice.csv"

DONE = ("finished", "failed")  # states in which a run has nothing left to do


def load_weights(path: Path) -> dict:
    """Read a safetensors file; nothing in it is executed. `StudyError` when it is missing, damaged or a pickle."""
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise StudyError(f"{path}: not a safetensors file, or cut short ({error})") from None


def named_run(path: Path) -> str:
    """The id of the run whose weights a safetensors file holds, as it says; "" where it doesn't, or can't be read."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("run", "")
    except (safetensors.SafetensorError, OSError):
        return ""


def checksum_of_mask(setting) -> str:
    """SHA-256 of the file that the undersampling mask of a run, a recipe is read from; empty where it is generated."""
    file = mask_file(setting.dataset, setting.degradation)
    return sha256_file(file) if file and file.exists() else ""


class RunFolder:
    """What a finished run left: `record` (run.json), `curve`, `volumes` and `slices` (metrics), `network()`.

    A run whose numbers went wrong is finished too, and `failed` says how. Its curve ends in NaN, its metrics and weights
    are NaN, so that whatever is made from them is a hole and not a number.
    """

    def __init__(self, study: Study, run: Run):
        self.study, self.run = study, run
        self.path = study.results / "runs" / run.id

    @property
    def inputs(self) -> dict:
        """What the result depends on beside the declaration: code, data, and the weights it was trained with."""
        return {
            "code": training_code(self.run),
            "mask": checksum_of_mask(self.run),
            "data": content_checksum(self.study.prepared(self.run.dataset.name)),
            "needs": {r.id: RunFolder(self.study, r).checksum() for r in self.run.needs},
        }

    @property
    def weights(self) -> Path:
        """The file that the trained weights lie in."""
        return self.path / WEIGHTS

    def checksum(self) -> str:
        """SHA-256 of the weights, or how the run failed."""
        return self.failed or sha256_file(self.weights)

    @property
    def ended(self) -> bool:
        """Whether its training came to an end, finished or failed; whether it is up to date isn't asked (`state`)."""
        return (self.path / "run.json").exists()

    def state(self) -> str:
        """ "finished" or "failed", or why it is neither: "missing", "out of date", or which file is damaged."""
        if not self.ended:
            return "missing"
        try:
            found = read_json(self.path / "run.json")
            if found["inputs"] != self.inputs:
                return "out of date"
            for name, checksum in found["files"].items():
                if not (self.path / name).exists() or sha256_file(self.path / name) != checksum:
                    return f"{name} is damaged"
        except (StudyError, KeyError, OSError) as error:
            return f"run.json is damaged ({error})"
        return "failed" if found.get("failed") else "finished"

    @property
    def failed(self) -> str:
        """How the run's numbers went wrong; empty where they didn't."""
        return self.record.get("failed", "")

    @cached_property
    def record(self) -> dict:
        """What run.json says: inputs, checksums, device, precision, seconds, code and libraries."""
        return read_json(self.path / "run.json")

    @cached_property
    def curve(self) -> pd.DataFrame:
        """A row per validation: `kdmri_lib.training.CURVE_COLUMNS`, PSNR in dB."""
        return pd.read_csv(self.path / CURVE)

    @property
    def validation(self) -> float:
        """PSNR (dB) of the checkpoint that was kept, on the validation subjects.

        NaN of a run that failed, and of one that holds lines out: its validation was of images from fewer lines.
        """
        if self.failed or Objective(self.run.objective).held_out:
            return math.nan
        curve = self.curve
        # One that judges no image is kept by its objective.
        score = curve.validation_psnr if curve.validation_objective.isna().all() else -curve.validation_objective
        return float(curve.validation_psnr[score.idxmax()])

    @cached_property
    def volumes(self) -> pd.DataFrame:
        """Metrics on the test sets, a row per volume, as `kdmri_lib.evaluation.evaluate` gives them."""
        return pd.read_csv(self.path / VOLUMES)

    @cached_property
    def slices(self) -> pd.DataFrame:
        """The same, a row per slice."""
        return pd.read_csv(self.path / SLICES)

    def network(self) -> Model:
        """The trained network, on the CPU, in evaluation mode; all NaN of a run that failed."""
        if not self.failed:
            return self.loaded()
        network = declared_network(self.run)
        for parameter in network.parameters():
            nn.init.constant_(parameter, math.nan)
        return network.eval()

    def loaded(self) -> Model:
        """The network of the weights that lie in the folder, whether or not the run is finished; in evaluation mode."""
        network = declared_network(self.run)
        network.load_state_dict(load_weights(self.weights))
        return network.eval()


def check_finished(study: Study) -> None:
    """`StudyError` names the first of the study's runs that isn't finished, whole and up to date."""
    states = {run.id: RunFolder(study, run).state() for run in study.runs.values()}
    unfinished = {name: state for name, state in states.items() if state not in DONE}
    if unfinished:
        name, state = next(iter(unfinished.items()))
        raise StudyError(
            f"{len(unfinished)} of {len(states)} runs can't vouch for a table; the first: {name}, {state} "
            f"(./run_all.sh --profile {study.source} makes what is missing)"
        )


def prepare_dataset(study: Study, name: str, jobs: int = 1, bar: type[tqdm] = tqdm) -> Preparation:
    """Prepare a data set of the study where it isn't there or up to date, with its index and contact sheet beside it.

    `bar` : shows how it comes along.
    """
    dataset, path = study.dataset(name), study.prepared(name)
    result = prepare(dataset, path, preparing_code(dataset), jobs, bar)
    if result.made or not all(path.with_suffix(ending).exists() for ending in (".csv", ".png")):
        write_overview(path)
    return result


def trained(
    study: Study, run: Run, label: str = "", stop=lambda: False, progress: Progress = training_progress
) -> RunFolder:
    """The finished folder of `run`: loaded where it is whole and up to date, trained (after what it needs) otherwise.

    `progress` : shows how a training comes along, as `training_progress` does. A run whose numbers go wrong comes back
    too, with `failed` saying how.
    """
    folder = RunFolder(study, run)
    for needed in run.needs:
        trained(study, needed, label_of_needed(study, needed, label), stop, progress)
    folder.path.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.path / ".lock"):
        if folder.state() not in DONE:
            _train(folder, label, stop, progress)
    if folder.failed:
        print(f"kdmri: {folder.failed}; to try again, delete {folder.path}", file=sys.stderr)
    return folder


def train_run(study: Study, run: Run, folder: Path, progress, stop) -> training.Trained:
    """Train `run` on the study's data, from the weights it needs, with its checkpoint in `folder`."""
    data = study.prepared(run.dataset.name)
    networks = {r.id: RunFolder(study, r).network() for r in run.needs}
    teacher, start = (networks[r.id] if r else None for r in (run.teacher, run.start))
    slices = Slices(data, "train", subjects=run.subjects)
    return training.train(
        f"run {run.id}",
        training_step(run, teacher, start),
        run.schedule,
        run.seed,
        slices,
        list(read_prepared(data, "validation")),
        folder / "checkpoint.pt",
        digest_json(RunFolder(study, run).inputs),
        None if run.truths is None else slices.of_first(run.truths),
        progress,
        stop,
    )


def label_of_needed(study: Study, needed: Run, label: str) -> str:
    """What people call a run that the run called `label` needs: by the study, or for it where the study has it not."""
    return study.labels.get(needed.id) or (f"{label}, a stage before" if label else "")


def _train(folder: RunFolder, label: str, stop, progress: Progress) -> None:
    study, run = folder.study, folder.run
    inputs = folder.inputs
    checkpoint, begun = folder.path / "checkpoint.pt", folder.path / "begun.json"
    (folder.path / "run.json").unlink(missing_ok=True)
    for partial in folder.path.glob(".*.partial*"):  # of a process that was killed while it wrote
        partial.unlink()
    # A checkpoint goes on only with what it began with.
    if checkpoint.exists() and (not begun.exists() or read_json(begun) != inputs):
        checkpoint.unlink()
        forget(folder.path)
    write_json(begun, inputs)
    write_json(folder.path / "declaration.json", run.model_dump(mode="json"))
    before = seconds_before(folder.path, checkpoint)
    started = time.monotonic()
    failed = ""
    try:
        for needed in (RunFolder(study, r) for r in run.needs):
            if needed.failed:
                raise NotFiniteError(f"run {run.id}: it needs one that failed ({needed.failed})")
        with progress(label or run.id) as report:
            result = train_run(study, run, folder.path, report, stop)
        network, curve = result.network, result.curve
    except NotFiniteError as error:
        network, curve, failed = None, _cut_short(error.rows), str(error)
    if not failed:
        contiguous = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        write_bytes(folder.weights, safetensors.torch.save(contiguous, {"run": run.id}))
        # Measured is what whoever loads the weights has: a training may leave more in its network than weights.
        network = folder.loaded()
    volumes, slices = evaluate(network, declared_operator(run), test_volumes(study.prepared(run.dataset.name)))
    if not failed and volumes[list(METRICS)].isna().any(axis=None):
        failed = f"run {run.id}: a reconstruction of the test set holds NaN or infinite values"
    if failed:
        for table in (volumes, slices):
            table[list(METRICS)] = math.nan
    for name, table in ((CURVE, curve), (VOLUMES, volumes), (SLICES, slices)):
        with atomic_write(folder.path / name) as temporary:
            table.to_csv(temporary, index=False)
    files = (CURVE, VOLUMES, SLICES) if failed else (WEIGHTS, CURVE, VOLUMES, SLICES)
    record = {
        **({"failed": failed} if failed else {}),
        "inputs": inputs,
        "files": {name: sha256_file(folder.path / name) for name in files},
        **computed_on(run.precision),
        "seconds": round(before + time.monotonic() - started, 1),
        **environment(),
    }
    # Last, since it is what says that the run is finished.
    write_json(folder.path / "run.json", record)
    folder.__dict__.pop("record", None)
    if failed:
        (folder.path / WEIGHTS).unlink(missing_ok=True)  # an earlier training's
        return  # the last good checkpoint stays
    for file in (checkpoint, begun, folder.path / SITTING):
        file.unlink(missing_ok=True)
    forget(folder.path)


def seconds_before(path: Path, checkpoint: Path) -> float:
    """For how long a run had been trained up to the checkpoint that it goes on from, in all sittings; a new one begins."""
    last, before = path / SITTING, 0.0
    if checkpoint.exists() and last.exists():
        told = read_json(last)
        before = told["before"] + max(0.0, checkpoint.stat().st_mtime - told["began"])
    write_json(last, {"before": before, "began": time.time()})
    return before


def _cut_short(rows: list[dict]) -> pd.DataFrame:
    """The curve of a run that failed: validations, and the step that it ended at, where all is NaN."""
    return pd.DataFrame(rows or [{"step": 0}], columns=training.CURVE_COLUMNS)


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
