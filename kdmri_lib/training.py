"""Training one stage: one loop for every stage of Algorithm 1.

Everything random is a function of the seed and the step: batches, strips, phases and initial weights. So a training that
was killed and goes on from its checkpoint ends with the same bits as one that was not.
"""

import io
import math
import pickle
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kdmri_lib.batches import Batches
from kdmri_lib.channels import as_channels, as_image, magnitude
from kdmri_lib.datasets.prepared import Slices, Volume
from kdmri_lib.declarations import Schedule
from kdmri_lib.devices import Processor, accelerated
from kdmri_lib.errors import NotFiniteError, StoppedError, StudyError
from kdmri_lib.evaluation import psnr, reconstruct
from kdmri_lib.losses.base import Prediction
from kdmri_lib.losses.objective import Objective
from kdmri_lib.models.base import Model
from kdmri_lib.models.expansion import collapse, expand
from kdmri_lib.operators import Measurement, UndersamplingOperator, line_matrix
from kdmri_lib.storage import read_checked, write_checked
from kdmri_lib.teacher_outputs import BATCH, cached, in_fours

CHECKPOINT_SECONDS = 60
OUTPUTS = "teacher_outputs.f32"  # beside the checkpoint, where cached teacher outputs don't fit into memory
CURVE_COLUMNS = ("step", "learning_rate", "training_loss", "validation_psnr", "validation_l1", "validation_objective")


class Trained(NamedTuple):
    """The network with its best weights, on the CPU, and its curve: a row per validation, `CURVE_COLUMNS`."""

    network: Model
    curve: pd.DataFrame


def learning_rate(schedule: Schedule, step: int, steps: int) -> float:
    """Learning rate of a step, by the schedule's decay."""
    done = step / steps
    if schedule.decay == "cosine":
        return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    if schedule.decay == "step":
        return schedule.learning_rate * 0.1 ** (math.floor(done * 15 / 4))
    return schedule.learning_rate


def predict(on: Processor, network: nn.Module, given: Measurement, features: Sequence[str] = ()) -> Prediction:
    """What a network makes of a measurement, with the features that are asked for."""
    result = on.computing(network)(*given, features=features)
    return Prediction(*result) if features else Prediction(result, {})


class Step:
    """One step of training on one device: undersample, predict, compare, and change the weights.

    Parameters
    ----------
    network : what trains; it holds the new weights after each step.
    operator : undersamples the true images.
    objective : what is lowered; its parameters train too.
    teacher : the trained teacher; it gets no gradient. `StudyError` when the objective needs one and there is none.
    each_step : ask the teacher at each step, of the batch itself, also where the objective could do with its answers to
        whole slices (`asks_once`).
    precision : see `accelerated`.
    expansion, averaging : as a `Schedule` says them.
    """

    def __init__(
        self,
        network: Model,
        operator: UndersamplingOperator,
        objective: Objective,
        teacher: Model | None = None,
        precision: str = "auto",
        each_step: bool = False,
        expansion: int | None = None,
        averaging: float | None = None,
    ):
        if objective.uses_teacher and teacher is None:
            raise StudyError("the objective needs a teacher and none is given")
        self.processor = accelerated(precision)
        self.objective, self.operator = objective.to(self.processor.device), operator.to(self.processor.device)
        self.asks_once = objective.asks_once and not each_step
        if expansion:
            expand(network, expansion)
        self.network = self.processor.put(network)
        self.parameters = [*network.parameters(), *objective.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, fused=True)
        self.averaged, self.judged = None, self.network
        if averaging:
            self.averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(averaging))
            self.judged = self.averaged.module
        self.teacher = None
        if objective.uses_teacher:
            teacher = teacher.to(memory_format=torch.channels_last).eval().requires_grad_(False)
            self.teacher = self.processor.put(teacher)

    @property
    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """What changes with the steps, by the names of a checkpoint."""
        found = {"network": self.network, "objective": self.objective, "optimizer": self.optimizer}
        return found if self.averaged is None else {**found, "averaged": self.averaged}

    def loss(
        self,
        target: Tensor,
        answers: Tensor | None = None,
        network: nn.Module | None = None,
        draw: np.random.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The objective on true images (B, C, H, W) after undersampling, and the image that the network makes of them.

        `answers` : the teacher's, where it was asked before (`ask`); `network` : the one that trains by default; `draw` :
        draws the lines that are held out, where the objective holds any.
        """
        network = network or self.network
        if self.objective.held_out:
            return self._loss_of_held_out(target, network, draw or np.random.default_rng(0))
        measurement = self.operator(target)
        prediction = predict(self.processor, network, measurement, self.objective.network_features)
        asked = self.teacher is not None and answers is None
        return self.objective(target, prediction, self._teach(measurement) if asked else answers), prediction.image

    def _loss_of_held_out(self, target: Tensor, network: nn.Module, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        seen, held = self.operator.split(self.objective.held_out, draw)
        matrix = torch.from_numpy(line_matrix(seen.lines, target.shape[1])).to(seen.real)
        # Its data consistency knows the seen lines alone, for this call.
        consistency = {n: matrix for n, _ in network.named_buffers() if n.endswith("data_consistency.matrix")}
        image = self.processor.computing(partial(torch.func.functional_call, network, consistency))(tuple(seen(target)))
        with torch.autocast(target.device.type, enabled=False):
            left = Prediction(held.left(image.to(target.dtype)), {})
            return self.objective(held.left(target), left, None), image

    @torch.no_grad()
    def _teach(self, measurement: Measurement) -> Prediction:
        return predict(self.processor, self.teacher, measurement, self.objective.teacher_features)

    @torch.no_grad()
    def ask(self, target: Tensor, known: int = 0) -> Tensor:
        """What an objective that `asks_once` takes of the teacher for true images (B, C, H, W): (B, K, H, W).

        Of the first `known` the true image stands in the stead of the teacher's.
        """
        teacher = self._teach(self.operator(target))
        image = torch.cat([target[:known], teacher.image[known:].float()])
        return self.objective.answers(teacher._replace(image=image))

    def __call__(
        self, target: Tensor, rate: float, answers: Tensor | None = None, draw: np.random.Generator | None = None
    ) -> float:
        """Step by a batch (B, C, H, W) at this learning rate; the loss before it. One that isn't finite steps nowhere."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, _ = self.loss(target, answers, draw=draw)
        value = loss.item()
        if math.isfinite(value):
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.averaged is not None:
                self.averaged.update_parameters(self.network)
        return value

    @property
    def finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return all(bool(p.isfinite().all()) for p in self.parameters)

    @torch.no_grad()
    def teacher_errors(self, batches: Batches) -> Tensor:
        """The teacher's mean squared error on every training sample, (samples,): slices, or the strips that they hold."""
        images, axis = batches.images, batches.axis
        extent, errors = batches.strip or images.shape[axis], []
        for target in in_fours(images):
            squared = (predict(self.processor, self.teacher, self.operator(target)).image - target).square()
            strips = squared.narrow(axis, 0, squared.shape[axis] // extent * extent).unfold(axis, extent, extent)
            errors.append(strips.movedim(axis, 1).flatten(2).mean(dim=2).flatten())
        return torch.cat(errors)

    @torch.inference_mode()
    def validate(self, volumes: list[Tensor], answers: Tensor | None = None) -> dict[str, float]:
        """Mean over volumes (slices, C, H, W) of volume PSNR (dB) and mean absolute error of magnitudes; the objective too,
        its mean over slices, if it judges no image.

        `answers` : the teacher's to all slices, where it was asked before.
        """
        self.judged.eval()
        slices = torch.cat(volumes)
        # Chunks as even as can be: with a remainder of one, losses between samples would have nothing to compare.
        chunks = max(1, math.ceil(len(slices) / BATCH))
        given = [None] * chunks if answers is None else answers.tensor_split(chunks)
        images, objective = [], 0.0
        for target, shown in zip(slices.tensor_split(chunks), given, strict=True):
            if self.objective.judges_image:
                value, image = math.nan, predict(self.processor, self.judged, self.operator(target)).image
            else:
                value, image = self.loss(target, shown, self.judged)
            objective += float(value) * len(target) / len(slices)
            images.append(image)
        self.judged.train()
        parts = torch.cat(images).split([len(volume) for volume in volumes])
        pairs = [[magnitude(as_image(v)) for v in both] for both in zip(volumes, parts, strict=True)]
        return {
            "validation_psnr": mean_psnr(pairs),
            "validation_l1": float(np.mean([np.abs(x - y).mean() for x, y in pairs])),
            "validation_objective": objective,
        }


def mean_psnr(pairs: list) -> float:
    """Mean PSNR (dB) of pairs of a true volume and a reconstructed one, magnitudes (slices, H, W)."""
    return float(np.mean([psnr(x, y, float(x.max())) for x, y in pairs]))


def validate_network(network: Model, operator: UndersamplingOperator, volumes: list[Volume], precision: str) -> float:
    """Mean volume PSNR (dB) of a network over prepared volumes, computed in "float32" or "bfloat16"."""
    processor = accelerated(precision)
    network, operator = processor.computing(processor.put(network.eval())), operator.to(processor.device)
    return mean_psnr([(magnitude(v.image), magnitude(reconstruct(network, operator, v.image))) for v in volumes])


def train(
    name: str,
    step: Step,
    schedule: Schedule,
    seed: int,
    training: Slices,
    validation: list[Volume],
    checkpoint: Path,
    truths: int | None = None,
    progress: Callable[[int, int, dict], None] = lambda step, steps, latest: None,
    stop: Callable[[], bool] = lambda: False,
    about: dict[str, str] | None = None,
) -> Trained:
    """Train the network of `step`, going on from `checkpoint` where there is one.

    Parameters
    ----------
    name : what messages call this training.
    step : the network with its objective and its teacher.
    training, validation : true images, their magnitudes in [0, 1].
    truths : of how many slices, the first, the true images are at hand; of all when not given.
    progress : called after each step with the steps done, their number, and the last validation's values.
    stop : asked after each step; when true, the checkpoint is written and `StoppedError` raised.
    about : what tells this training from others, whose checkpoint it doesn't go on from.

    Raises
    ------
    NotFiniteError
        When the loss or the weights are NaN or infinite, naming step, volumes and slices; the last good checkpoint is kept.
    StudyError
        When strips are asked for with a mask that isn't made of lines, or a loss compares the samples of a batch and there
        is but one, in training or in validation; when true images are missing that the objective looks at; when the
        checkpoint is of another training.
    """
    objective, operator, device = step.objective, step.operator, step.processor.device
    count = sum(len(volume.image) for volume in validation)
    for what, number in (("a batch", schedule.batch), ("the validation set", count)):
        if objective.relates_samples and number < 2:
            raise StudyError(
                f"{name}: its loss compares samples with one another, and {what} holds 1; expected at least 2"
            )
    if truths is not None and (objective.uses_truth or not step.asks_once):
        raise StudyError(
            f"{name}: true images of {truths} of {len(training)} slices, and an objective that looks at them; expected "
            "losses that compare with the teacher alone and ask it once"
        )
    if schedule.strip and operator.axis is None:
        raise StudyError(f"{name}: strips need a mask of whole lines; this one isn't")
    along = 2 if operator.axis == 1 else 3
    batches = Batches(training.to(device), schedule.batch, seed, schedule.strip, along)
    validated = [as_channels(v.image).to(device) for v in validation]
    steps = schedule.total_steps(len(training))
    checks = {round((i + 1) * steps / schedule.validations) for i in range(schedule.validations)}
    if objective.needs_teacher_errors:
        objective.prepare(step.teacher_errors(batches))
    answers = validation_answers = None
    if step.asks_once:
        answers = cached(step.ask, batches.images, truths or 0, checkpoint.with_name(OUTPUTS))
        if not objective.judges_image:
            validation_answers = torch.cat([step.ask(part) for part in in_fours(torch.cat(validated))])

    # What a checkpoint holds beside `step.parts`; losses are those since the last validation.
    at = {"about": about or {}, "step": 0, "rows": [], "losses": [], "best": None, "best_value": -math.inf}
    if checkpoint.exists():
        at |= _load_checkpoint(checkpoint, device)
        if differ := [what for what, said in (about or {}).items() if at["about"].get(what) != said]:
            raise StudyError(
                f"{checkpoint}: of another training, by its {', '.join(differ)}; delete it (or begin with the same seed)"
            )
        for part_name, part in step.parts.items():
            part.load_state_dict(at.pop(part_name, None))
    rows = at["rows"]

    def judge(done: int, rate: float) -> None:
        latest = step.validate(validated, validation_answers)
        loss = float(np.mean(at["losses"])) if at["losses"] else math.nan
        rows.append({"step": done, "learning_rate": rate, "training_loss": loss, **latest})
        at["losses"].clear()
        score = latest["validation_psnr"] if objective.judges_image else -latest["validation_objective"]
        if score > at["best_value"]:
            at["best_value"] = score
            at["best"] = {k: v.detach().clone() for k, v in step.judged.state_dict().items()}

    def failed(what: str, number: int) -> NotFiniteError:
        held = ", ".join(training.names[n] for n in batches.chosen(number))
        return NotFiniteError(f"{name}: {what} at step {number + 1}; its batch: {held}", [*rows, {"step": number + 1}])

    if not steps:  # what it starts from, as it is
        judge(0, 0.0)
    saved = time.monotonic()
    for number in range(at["step"], steps):
        torch.manual_seed(seed * steps + number)  # of what a network draws by itself
        rate = learning_rate(schedule, number, steps)
        shown = None if answers is None else batches.phased(batches.cut(answers, number).to(device), number)
        value = step(batches(number), rate, shown, np.random.default_rng([seed, number, 3]))
        if not math.isfinite(value):
            raise failed(f"the loss is {value}", number)
        at["losses"].append(value)
        at["step"] = done = number + 1
        if done in checks:
            judge(done, rate)
        progress(done, steps, rows[-1] if rows else {})
        asked_to_stop = stop()
        # Of weights that aren't finite none is kept: the last good checkpoint stays, and the next loss says what happened.
        if (done in checks or asked_to_stop or time.monotonic() - saved > CHECKPOINT_SECONDS) and step.finite:
            buffer = io.BytesIO()
            torch.save(at | {part_name: part.state_dict() for part_name, part in step.parts.items()}, buffer)
            write_checked(checkpoint, buffer.getvalue())
            saved = time.monotonic()
        if asked_to_stop and done < steps:
            raise StoppedError(f"{name}: stopped after step {done} of {steps}; start again to go on from there")

    if not step.finite or at["best"] is None:
        raise failed("the weights or all validations are NaN or infinite", steps - 1)
    network = step.network.to("cpu")
    network.load_state_dict(at["best"])
    collapse(network)
    return Trained(network, pd.DataFrame(rows))


def _load_checkpoint(path: Path, device: torch.device) -> dict:
    """Read a checkpoint as data: `StudyError` when its checksum is wrong, or when it holds anything but plain values."""
    try:
        return torch.load(io.BytesIO(read_checked(path)), map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise StudyError(f"{path}: not a KD-MRI checkpoint; delete it and the run begins anew ({error})") from None
