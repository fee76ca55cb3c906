"""Training one run: one loop for every stage of Algorithm 1.

Everything random is a function of the run's seed and the step, nothing else: batches, strips and initial weights. So a
run that was killed and goes on from its checkpoint ends with the same bits as one that was not.

Started by torchrun (`data_parallel.py`), its processes share each batch: the gradient is the mean of theirs, and the first
process validates and writes.
"""

import io
import logging
import math
import os
import pickle
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from kdmri_lib.datasets.prepared import Slices, Volume
from kdmri_lib.declarations import Run, Schedule
from kdmri_lib.errors import NotFinite, Stopped, StudyError
from kdmri_lib.evaluation import psnr, reconstruct
from kdmri_lib.files import read_checked, write_checked
from kdmri_lib.losses import Objective, Prediction
from kdmri_lib.models import begin_from, build_model
from kdmri_lib.sampling import Measurement, declared_mask, declared_undersampling

CHECKPOINT_SECONDS = 60
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # or it says at each start what run.json records


class Trained(NamedTuple):
    network: nn.Module
    curve: pd.DataFrame


class SharedBatches(DDPStrategy):
    """Processes side by side whose gradients the training loop averages itself.

    In place of DDP's wrapper, which would have to be told of every feature loss which convolutions it leaves without a
    gradient; networks of this size go into one message.
    """

    def setup_module(self, module: nn.Module) -> nn.Module:
        return module


def accelerated(precision: str) -> Fabric:
    """Fabric on the GPU where there is one, else the CPU; bfloat16 autocast where the device computes in it.

    One device, or one a process when torchrun has started this process. `precision`: "float32", "bfloat16", or "auto" for
    bfloat16 where the hardware has it.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Filling new memory only guards against reading it unwritten, and costs 8% of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    gpu = torch.cuda.is_available()
    if precision == "auto":
        native = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else cpu_has_bfloat16()
        precision = "bfloat16" if native else "float32"
    common = {
        "accelerator": "cuda" if gpu else "cpu",
        "precision": "bf16-mixed" if precision == "bfloat16" else "32-true",
    }
    if TorchElasticEnvironment.detect():
        fabric = Fabric(devices=int(os.environ["LOCAL_WORLD_SIZE"]), strategy=SharedBatches(), **common)
    else:
        # Said outright, since Fabric takes a SLURM job's variables for those of a job that shares its batches.
        fabric = Fabric(devices=1, plugins=LightningEnvironment(), **common)
    fabric.launch()
    return fabric


def average_gradients(fabric: Fabric, parameters: list[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes: of a loss that is a mean over samples, the whole batch's."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    mean = fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
    for gradient, values in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(values.view_as(gradient))


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX-512 BF16 or AMX); elsewhere autocast would only emulate it."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def build_network(run: Run) -> nn.Module:
    """The run's network with its mask, initial weights by its seed: layer by layer uniform, PyTorch's default."""
    torch.manual_seed(run.seed)
    mask = declared_mask(run.dataset, run.degradation)
    return build_model(run.network.kind, mask, **run.network.options).to(memory_format=torch.channels_last)


def learning_rate(schedule: Schedule, step: int, steps: int) -> float:
    """Learning rate of a step, by the schedule's decay."""
    done = step / steps
    if schedule.decay == "cosine":
        return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    if schedule.decay == "step":
        return schedule.learning_rate * 0.1 ** (math.floor(done * 15 / 4))
    return schedule.learning_rate


class Batches:
    """Batch number `step` of an endless shuffled stream of slices: a function of seed and step alone.

    With `strip`, each sample is a random strip of that extent along `axis` (2 rows, 3 columns of (B, 1, H, W)), which the
    mask must sample fully. `images` may be a tensor or `Slices` that are read from their file.
    """

    def __init__(self, images: Tensor | Slices, batch: int, seed: int, strip: int | None = None, axis: int = 3):
        self.images, self.batch, self.seed, self.axis = images, batch, seed, axis
        self.strip = None if strip is None or strip >= images.shape[axis] else strip
        self.order = lru_cache(maxsize=2)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(images)))

    def chosen(self, step: int) -> list[int]:
        """Which slices the batch holds."""
        positions = range(step * self.batch, (step + 1) * self.batch)
        return [int(self.order(p // len(self.images))[p % len(self.images)]) for p in positions]

    def __call__(self, step: int) -> Tensor:
        chosen = self.chosen(step)
        if self.strip is None:
            return self.images[chosen]
        offsets = np.random.default_rng([self.seed, step, 1]).integers(
            0, self.images.shape[self.axis] - self.strip + 1, self.batch
        )
        strips = [
            self.images[n].narrow(self.axis - 1, int(o), self.strip) for n, o in zip(chosen, offsets, strict=True)
        ]
        return torch.stack(strips)


def predict(model: nn.Module, measurement: Measurement, features: list[str]) -> Prediction:
    """What a network makes of a measurement, with the features that are asked for."""
    result = model(*measurement, features=features)
    return Prediction(*result) if features else Prediction(result, {})


def validate(forward: Callable, objective: Objective, volumes: list[Tensor], batch: int = 4) -> dict[str, float]:
    """Mean over validation volumes of volume PSNR and mean absolute error; the objective too, if it judges no image."""
    rows = []
    for volume in volumes:
        values, images = [], []
        for target in volume.split(batch):
            student, teacher = forward(target)
            if not objective.judges_image:
                values.append(float(objective(target, student, teacher)))
            images.append(student.image)
        image, target = (v.float().cpu().numpy()[:, 0] for v in (torch.cat(images), volume))
        rows.append(
            {
                "validation_psnr": psnr(target, image, float(target.max())),
                "validation_l1": float(np.abs(target - image).mean()),
                "validation_objective": float(np.mean(values)) if values else math.nan,
            }
        )
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def validate_network(network: nn.Module, run: Run, volumes: list[Volume], precision: str) -> float:
    """Mean volume PSNR (dB) of `run`'s network over prepared volumes, computed in "float32" or "bfloat16"."""
    fabric = accelerated(precision)
    network = fabric.setup(network.eval())
    degradation = fabric.to_device(declared_undersampling(run))
    images = [reconstruct(network, degradation, v.image) for v in volumes]
    return float(np.mean([psnr(v.image, i, float(v.image.max())) for v, i in zip(volumes, images, strict=True)]))


def train(
    run: Run,
    training: Slices,
    validation: list[Volume],
    checkpoint: Path,
    teacher: nn.Module | None = None,
    start: nn.Module | None = None,
    progress: Callable[[int, int, dict], None] = lambda step, steps, latest: None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train the network of `run`, going on from `checkpoint` where there is one.

    Parameters
    ----------
    teacher : the trained teacher, for objectives that use one; it gets no gradient.
    start : a trained network whose weights to start from, in place of random ones.
    progress : called after each step with the steps done, their number, and the last validation's values.
    stop : asked after each step; when true, the checkpoint is written and `Stopped` raised.

    Raises
    ------
    NotFinite
        When the loss or the weights are NaN or infinite, naming step, volumes and slices; the last good checkpoint is kept.
    StudyError
        When strips are asked for with a mask that isn't made of lines.
    """
    schedule = run.schedule
    fabric = accelerated(run.precision)
    network = build_network(run)
    if start is not None:
        begin_from(network, start)
    objective = Objective(run.objective).to(fabric.device)
    parameters = [*network.parameters(), *objective.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=schedule.learning_rate, fused=True)
    network, optimizer = fabric.setup(network, optimizer)
    degradation = fabric.to_device(declared_undersampling(run))
    if objective.uses_teacher:
        if teacher is None:
            raise StudyError(f"run {run.id}: its objective needs a teacher and the run names none")
        teacher = fabric.setup(teacher.to(memory_format=torch.channels_last).eval().requires_grad_(False))

    if schedule.strip and degradation.axis is None:
        raise StudyError(f"run {run.id}: strips need a mask of whole lines; this one isn't")
    images = training.to(fabric.device)
    batches = Batches(images, schedule.batch, run.seed, schedule.strip, axis=2 if degradation.axis == 1 else 3)
    held_out = [torch.from_numpy(v.image).unsqueeze(1).to(fabric.device) for v in validation]
    steps = schedule.total_steps(len(images))
    checks = {round((i + 1) * steps / schedule.validations) for i in range(schedule.validations)}

    def forward(target: Tensor) -> tuple[Prediction, Prediction | None]:
        measurement = degradation(target)
        student = predict(network, measurement, objective.student_features)
        if not objective.uses_teacher:
            return student, None
        with torch.no_grad():
            return student, predict(teacher, measurement, objective.teacher_features)

    if objective.needs_teacher_errors:
        extent = images.shape[batches.axis] if batches.strip is None else batches.strip
        with torch.no_grad():
            objective.prepare(
                _sample_errors(lambda x: predict(teacher, degradation(x), []).image, images, extent, batches.axis)
            )

    first, rows, best, best_value, loss_sum, loss_count = 0, [], None, -math.inf, 0.0, 0
    if checkpoint.exists():
        state = _load_checkpoint(checkpoint, fabric.device)
        network.load_state_dict(state["network"])
        objective.load_state_dict(state["objective"])
        optimizer.load_state_dict(state["optimizer"])
        first, rows, best, best_value = state["step"], state["rows"], state["best"], state["best_value"]
        loss_sum, loss_count = state["loss_sum"], state["loss_count"]

    def mean_over_processes(value: float) -> float:
        return fabric.all_reduce(value, reduce_op="mean").item() if fabric.world_size > 1 else value

    def finite() -> bool:
        return all(bool(p.isfinite().all()) for p in parameters)

    def failed(what: str, step: int) -> NotFinite:
        held = ", ".join(training.names[n] for n in batches.chosen(step))
        return NotFinite(f"run {run.id}: {what} at step {step + 1}; its batch: {held}", [*rows, {"step": step + 1}])

    def save(step: int) -> None:
        if not finite():
            return  # the last good checkpoint stays; the next loss will say what happened
        state = {
            "step": step,
            "network": network.state_dict(),
            "objective": objective.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rows": rows,
            "best": best,
            "best_value": best_value,
            "loss_sum": loss_sum,
            "loss_count": loss_count,
        }
        write_checked(checkpoint, lambda file: torch.save(state, file))

    share = schedule.batch // fabric.world_size
    mine = slice(fabric.global_rank * share, (fabric.global_rank + 1) * share)
    saved = time.monotonic()
    for step in range(first, steps):
        rate = learning_rate(schedule, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        target = batches(step)[mine]
        student, shown = forward(target)
        loss = objective(target, student, shown)
        value = mean_over_processes(loss.item())
        if not math.isfinite(value):
            raise failed(f"the loss is {value}", step)
        optimizer.zero_grad()
        fabric.backward(loss)
        if fabric.world_size > 1:
            average_gradients(fabric, parameters)
        optimizer.step()
        loss_sum, loss_count = loss_sum + value, loss_count + 1

        done = step + 1
        if done in checks and fabric.is_global_zero:
            network.eval()
            with torch.inference_mode():
                latest = validate(forward, objective, held_out)
            network.train()
            rows.append({"step": done, "learning_rate": rate, "training_loss": loss_sum / loss_count, **latest})
            loss_sum, loss_count = 0.0, 0
            value = latest["validation_psnr"] if objective.judges_image else -latest["validation_objective"]
            if value > best_value:
                best_value, best = value, {k: v.detach().clone() for k, v in network.state_dict().items()}
        progress(done, steps, rows[-1] if rows else {})
        # All stop after the same step, or those that go on would wait for the others.
        asked_to_stop = mean_over_processes(float(stop())) > 0
        if fabric.is_global_zero and (done in checks or asked_to_stop or time.monotonic() - saved > CHECKPOINT_SECONDS):
            save(done)
            saved = time.monotonic()
        if asked_to_stop and done < steps:
            raise Stopped(f"run {run.id}: stopped after step {done} of {steps}; start again to go on from there")

    if not finite() or (best is None and fabric.is_global_zero):
        raise failed("the weights or all validations are NaN or infinite", steps - 1)
    trained = build_network(run)
    trained.load_state_dict(best if fabric.is_global_zero else network.state_dict())
    return Trained(trained, pd.DataFrame(rows))


def _sample_errors(reconstruct: Callable, images: Tensor | Slices, extent: int, axis: int) -> Tensor:
    """Mean squared error of every training sample, (samples,): slices, or their strips side by side when strips train."""
    errors = []
    for first in range(0, len(images), 4):
        target = images[list(range(first, min(first + 4, len(images))))]
        squared = (reconstruct(target) - target).square()
        strips = squared.narrow(axis, 0, squared.shape[axis] // extent * extent).unfold(axis, extent, extent)
        errors.append(strips.movedim(axis, 1).flatten(2).mean(dim=2).flatten())
    return torch.cat(errors)


def _load_checkpoint(path: Path, device: torch.device) -> dict:
    """Read a checkpoint as data: `StudyError` when its checksum is wrong, or when it holds anything but plain values."""
    try:
        return torch.load(io.BytesIO(read_checked(path)), map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise StudyError(f"{path}: not a KD-MRI checkpoint; delete it and the run begins anew ({error})") from None


def computed_on(precision: str) -> dict[str, str]:
    """The "device" that training uses here, and the "precision" it computes in there."""
    fabric = accelerated(precision)
    threads = torch.get_num_threads()
    return {
        "device": torch.cuda.get_device_name(fabric.device)
        if fabric.device.type == "cuda"
        else f"CPU, {threads} thread{'s' if threads > 1 else ''}",
        "precision": "bfloat16" if "bf16" in str(fabric._precision.precision) else "float32",
    }
