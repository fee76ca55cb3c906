"""How fast training is beside the same networks written plainly, and what each loss costs."""

import time
from collections.abc import Callable
from itertools import count, pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kdmri_lib.batches import Batches
from kdmri_lib.datasets.phantoms.cardiac_phantom import subject_volume
from kdmri_lib.declarations import Dataset, LossTerm, Network, Run, Schedule, Undersampling
from kdmri_lib.declared import declared_mask, declared_network, run_network, training_step
from kdmri_lib.devices import cpu_has_bfloat16
from kdmri_lib.losses.base import LOSSES
from kdmri_lib.teacher_outputs import BATCH as ASKED
from kdmri_study.paper import feature_losses

DCCNN = {"teacher": 5, "student": 3}  # convolutions per cascade
PLAIN = "plain, float32"

Step = Callable[[], object]


def timed(step: Step, seconds: float, least: int = 5) -> dict[str, float]:
    """Median and quartiles (ms) of the calls in `seconds`, `least` of them at least, after three that don't count."""
    for _ in range(3):
        step()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < least:
        began = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - began))
    low, median, high = np.percentile(times, [25, 50, 75])
    return {"ms": median, "q25": low, "q75": high, "calls": len(times)}


class PlainDCCNN(nn.Module):
    """DC-CNN as one would first write it: float32, and data consistency by complex float64 FFTs in each cascade."""

    def __init__(self, mask: np.ndarray, convolutions: int, cascades: int = 5, features: int = 32):
        super().__init__()
        self.mask, self.cascades = torch.from_numpy(mask), nn.ModuleList()
        for _ in range(cascades):
            layers: list[nn.Module] = []
            for inputs, outputs in pairwise([1] + [features] * (convolutions - 1) + [1]):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            self.cascades.append(nn.Sequential(*layers[:-1]))

    def forward(self, zero_filled: Tensor, kspace: Tensor) -> Tensor:
        image = zero_filled
        for cascade in self.cascades:
            predicted = torch.fft.fft2((image + cascade(image)).double(), norm="ortho")
            image = torch.fft.ifft2(torch.where(self.mask, kspace, predicted), norm="ortho").real.float()
        return image


def plain_step(network: PlainDCCNN, images: Tensor, batch: int) -> Step:
    """A training step as one would first write it, on true images (slices, 1, H, W)."""
    optimizer, rng = torch.optim.Adam(network.parameters(), lr=1e-3), np.random.default_rng(0)

    def step() -> None:
        target = images[rng.integers(len(images), size=batch)]
        kspace = torch.fft.fft2(target.double(), norm="ortho") * network.mask
        output = network(torch.fft.ifft2(kspace, norm="ortho").abs().float(), kspace)
        loss = (output - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def study_step(run: Run, precision: str, images: Tensor) -> Step:
    """The training loop's own step, on untrained networks; the teacher's errors, where a loss wants them, made up."""
    run = run.model_copy(update={"precision": precision})
    step = training_step(run, declared_network(run.teacher) if run.teacher else None)
    step.objective.prepare(torch.tensor([0.0, 1.0]))
    images = images.to(step.processor.device)
    batches, numbers = Batches(images, run.schedule.batch, run.seed), count()
    answers = torch.cat([step.ask(part) for part in images.split(ASKED)]) if step.asks_once else None

    def one() -> None:
        number = next(numbers)
        step(batches(number), run.schedule.learning_rate, None if answers is None else batches.cut(answers, number))

    return one


def untaught(convolutions: int, shape: tuple[int, int], batch: int) -> Run:
    """A training by reconstruction alone at 4x, of a network of so many convolutions a cascade."""
    return Run(
        dataset=Dataset(name="cardiac", source="cardiac_phantom", shape=shape, train=1, validation=1, test=1),
        undersampling=Undersampling(acceleration=4),
        network=Network(options={"convolutions": convolutions}),
        schedule=Schedule(steps=1, batch=batch),
    )


def by_loss(teacher: Run, student: Run) -> dict[str, Run]:
    """The student's training by each loss."""
    terms = {"reconstruction": LossTerm(loss="reconstruction"), "imitation": LossTerm(loss="imitation")}
    for name in feature_losses():
        loss = LOSSES.find(name)
        places = loss.places(run_network(teacher), run_network(student))
        terms[loss.label or name] = LossTerm(loss=name, options=places)
    taught = student.model_copy(update={"teacher": teacher})
    return {name: taught.model_copy(update={"objective": (term,)}) for name, term in terms.items()}


def training_times(threads: int, seconds: float, shape: tuple[int, int] = (150, 150), batch: int = 4) -> pd.DataFrame:
    """Median time (ms) of whole training steps, slices per second, and how many times as fast that is as the plain student.

    A row for teacher and student, each written plainly and as here in float32 and, where the processor multiplies in it,
    bfloat16; and for the student by each loss.
    """
    torch.set_num_threads(threads)
    teacher, student = (untaught(convolutions, shape, batch) for convolutions in DCCNN.values())
    volume = subject_volume(np.random.default_rng(0), 32, shape)
    images, steps = torch.from_numpy(volume / volume.max()).unsqueeze(1), {}
    for name, run in {"teacher": teacher, "student": student}.items():
        plain = PlainDCCNN(declared_mask(run.dataset, run.undersampling), DCCNN[name])
        steps[f"{name}: {PLAIN}"] = plain_step(plain, images, batch)
        for precision in ("float32", "bfloat16") if cpu_has_bfloat16() else ("float32",):
            steps[f"{name}: {precision}"] = study_step(run, precision, images)
    for name, run in by_loss(teacher, student).items():
        steps[f"student by {name}"] = study_step(run, "auto", images)
    # In turns of a second, so that a busy moment of the machine meets all alike.
    turns = [{name: timed(step, 1, least=1)["ms"] for name, step in steps.items()} for _ in range(round(seconds) or 1)]
    ms = pd.DataFrame(turns).median()
    return pd.DataFrame({"ms": ms, "slices/s": 1000 * batch / ms, "of plain student": ms[f"student: {PLAIN}"] / ms})
