"""From declarations to objects: masks, operators, networks, and the step that a run trains by."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from kdmri_lib import masks
from kdmri_lib.datasets.reading import reading
from kdmri_lib.declarations import Dataset, Network, Run, Undersampling
from kdmri_lib.losses.objective import Objective
from kdmri_lib.models.base import Model, begin_from, build_model
from kdmri_lib.operators import UndersamplingOperator
from kdmri_lib.storage import PROJECT
from kdmri_lib.training import Step


def _sampled_like(dataset: Dataset) -> str:
    """Which of the paper's data sets this one is sampled like."""
    return dataset.sampled_like or (dataset.name if dataset.name in masks.GRIDS else "brain")


def mask_file(dataset: Dataset, undersampling: Undersampling) -> Path | None:
    """The file that a mask is read from: the undersampling's, or the data set's `masks`, {factor} filled in, or the
    published masks; None where the mask is generated."""
    if undersampling.mask is not None:
        return PROJECT / undersampling.mask
    if undersampling.kind != "cartesian":
        return None
    if "masks" in dataset.options:
        return PROJECT / str(dataset.options["masks"]).replace("{factor}", f"{undersampling.acceleration:g}")
    published = masks.is_published(_sampled_like(dataset), undersampling.acceleration, dataset.shape)
    return masks.PUBLISHED if published and undersampling.seed is None else None


def declared_mask(dataset: Dataset, undersampling: Undersampling) -> np.ndarray:
    """The one mask of a data set and an undersampling: (H, W) boolean, unshifted.

    Data sets named as the paper's, or declared `sampled_like` one, have its masks, or such as are drawn by their rules; any
    other is sampled like the brain. A mask of the user's own is read from a file (`mask_file`): .npy, or lists of lines as
    `read_lines` takes them.
    """
    shape, acceleration, seed = dataset.shape, undersampling.acceleration, undersampling.seed
    file = mask_file(dataset, undersampling)
    if file is not None and file != masks.PUBLISHED:
        if file.suffix == ".json":
            return masks.read_lines(file, dataset.name, acceleration, shape)
        with reading(file, ".npy mask"):
            mask = np.load(file, allow_pickle=False)
        return masks.centre_measured(masks.check_mask(mask, shape, str(file)), str(file))
    if undersampling.kind == "gaussian_2d":
        return masks.gaussian_mask_2d(shape, acceleration, seed=seed or 0)
    if undersampling.kind == "truncation":
        return masks.truncation_mask(shape, acceleration)
    return masks.published_mask(_sampled_like(dataset), acceleration, shape, seed)


def declared_operator(dataset: Dataset, undersampling: Undersampling) -> UndersamplingOperator:
    """The operator of `declared_mask`."""
    return UndersamplingOperator(declared_mask(dataset, undersampling))


def declared_network(run: Run) -> Model:
    """The run's network with its mask, initial weights by its seed."""
    torch.manual_seed(run.seed)
    mask = declared_mask(run.dataset, run.undersampling)
    network = build_model(run.network.kind, mask, run.dataset.channels, **run.network.options)
    return network.to(memory_format=torch.channels_last)


@cache
def plain_network(declaration: Network, channels: int = 1) -> Model:
    """The declared network for images of `channels`, with a mask that doesn't matter, for counting and for its feature
    names, which are the same for any number; made once."""
    return build_model(declaration.kind, np.ones((8, 8), dtype=bool), channels, **declaration.options)


def run_network(run: Run) -> Model:
    """The run's network with a mask that doesn't matter, for counting; made once."""
    return plain_network(run.network, run.dataset.channels)


def training_step(run: Run, teacher: Model | None = None, start: Model | None = None) -> Step:
    """What `run` trains by; `teacher` and `start` are the trained networks of the runs that it names.

    A teacher of other images or of another mask is asked with the data consistency of this run's.
    """
    network = declared_network(run)
    if start is not None:
        begin_from(network, start, run.taken)
    if teacher is not None and (run.dataset, run.undersampling) != (run.teacher.dataset, run.teacher.undersampling):
        here = run.teacher.model_copy(update={"dataset": run.dataset, "undersampling": run.undersampling})
        weights, teacher = teacher.state_dict(), declared_network(here)
        teacher.load_state_dict(weights)
    schedule = run.schedule
    return Step(
        network,
        declared_operator(run.dataset, run.undersampling),
        Objective(run.objective),
        teacher,
        run.precision,
        each_step=run.teacher_asked == "each step",
        expansion=schedule.expansion,
        averaging=schedule.averaging,
    )
