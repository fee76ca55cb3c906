"""Trainings of declared runs without run folders, and what they are compared by."""

from pathlib import Path

import torch

from kdmri_lib import training
from kdmri_lib.datasets.prepared import Slices, Volume, read_prepared
from kdmri_lib.declarations import Run
from kdmri_lib.declared import training_step
from kdmri_lib.models.base import Model

Data = tuple[Slices, list[Volume]]


def data_of(path: Path) -> Data:
    """Training slices and validation volumes of a prepared file."""
    return Slices(path, "train"), list(read_prepared(path, "validation"))


def train(
    run: Run, data: Data, checkpoint: Path, teacher: Model | None = None, start: Model | None = None, **hooks
) -> training.Trained:
    """Train `run` on `data`; `hooks` are `progress` and `stop`."""
    return train_by(training_step(run, teacher, start), run, data, checkpoint, **hooks)


def train_by(step: training.Step, run: Run, data: Data, checkpoint: Path, **hooks) -> training.Trained:
    """Train the network of `step` as `run` says."""
    return training.train(f"run {run.id}", step, run.schedule, run.seed, *data, checkpoint, **hooks)


def assert_same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    """That two networks' weights are equal, bit by bit."""
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


class Trap:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))
