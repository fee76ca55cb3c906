"""How fast training is beside the same networks written plainly, and what each loss costs: `... kdmri_lib benchmark`."""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.memory import peak_memory
from kdmri_lib.answers import BATCH as ASKED
from kdmri_lib.batches import Batches
from kdmri_lib.datasets.phantoms.cardiac_phantom import subject_volume
from kdmri_lib.declarations import Dataset, Degradation, Distillation, Network, Run, Schedule
from kdmri_lib.devices import cpu_has_bfloat16
from kdmri_lib.losses.objective import Objective
from kdmri_lib.models.base import multiply_accumulates
from kdmri_study.build import declared_mask, declared_network, plain_network, training_step
from kdmri_study.experiments.comparison import FEATURE_LOSSES, label
from kdmri_study.experiments.recipe import Recipe
from kdmri_study.provenance import processor_name

SHAPE, BATCH, FACTOR = (150, 150), 4, 4
DCCNN = {"teacher": 5, "student": 3}  # convolutions per cascade
LIVE = ", teacher at each step"
VDSR = {"VDSR teacher": 11, "VDSR student": 7}


def _stack(channels: list[int]) -> nn.Sequential:
    """3x3 convolutions with ReLU between."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PlainDCCNN(nn.Module):
    """DC-CNN as one would first write it: float32, and data consistency by complex float64 FFTs in each cascade."""

    def __init__(self, mask: np.ndarray, convolutions: int, cascades: int = 5, features: int = 32):
        super().__init__()
        self.mask = torch.from_numpy(mask)
        self.cascades = nn.ModuleList(_stack([1] + [features] * (convolutions - 1) + [1]) for _ in range(cascades))

    def forward(self, zero_filled: Tensor, kspace: Tensor) -> Tensor:
        image = zero_filled
        for cascade in self.cascades:
            predicted = torch.fft.fft2((image + cascade(image)).double(), norm="ortho")
            image = torch.fft.ifft2(torch.where(self.mask, kspace, predicted), norm="ortho").real.float()
        return image


class PlainVDSR(nn.Module):
    """VDSR in float32."""

    def __init__(self, mask: np.ndarray, convolutions: int, features: int = 64):
        super().__init__()
        self.mask = torch.from_numpy(mask)
        self.layers = _stack([1] + [features] * (convolutions - 1) + [1])

    def forward(self, zero_filled: Tensor, kspace: Tensor) -> Tensor:
        return zero_filled + self.layers(zero_filled)


def in_turns(steps: dict[str, Callable[[int], None]], seconds: float, batch: int) -> dict[str, float]:
    """Median slices per second of each step, in turns of a second, so that a busy moment of the machine meets all alike."""
    for step in steps.values():
        for number in range(3):  # which don't count
            step(number)
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(max(1, round(seconds))):
        for name, step in steps.items():
            began, done = time.perf_counter(), 0
            while time.perf_counter() - began < 1:
                step(100 * turn + done)
                done += 1
            rates[name].append(done * batch / (time.perf_counter() - began))
    return {name: float(np.median(values)) for name, values in rates.items()}


def _plain_step(file: Path, network: nn.Module, batch: int) -> Callable[[int], None]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)

    def step(_: int) -> None:
        with h5py.File(file) as data:
            target = torch.stack(
                [torch.from_numpy(data["volume"][rng.integers(len(data["volume"]))]) for _ in range(batch)]
            )
        target = target.unsqueeze(1)
        kspace = torch.fft.fft2(target.double(), norm="ortho") * network.mask
        output = network(torch.fft.ifft2(kspace, norm="ortho").abs().float(), kspace)
        loss = (output - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def study_step(run: Run, precision: str, images: Tensor) -> Callable[[int], None]:
    """The training loop's own step, on untrained networks; the teacher's errors, where a loss wants them, made up."""
    run = run.model_copy(update={"precision": precision})
    step = training_step(run, declared_network(run.teacher) if run.teacher else None)
    step.objective.prepare(torch.tensor([0.0, 1.0]))
    images = images.to(step.fabric.device)
    batches, answers = Batches(images, run.schedule.batch, run.seed), None
    if step.asks_once:
        answers = torch.cat([step.ask(part) for part in images.split(ASKED)])

    def one(number: int) -> None:
        step(batches(number), run.schedule.learning_rate, None if answers is None else batches.cut(answers, number))

    return one


def _recipe(kind: str, shape: tuple[int, int], batch: int, convolutions: dict[str, int], /, **degradation) -> Recipe:
    """A setting for one kind of network, its teacher and its student of so many convolutions."""
    teacher, student = (Network(kind=kind, options={"convolutions": n}) for n in convolutions.values())
    sizes = {"train": 1, "validation": 1, "test": 1, "slices_per_volume": 1}
    return Recipe(
        dataset=Dataset(name="cardiac", source="cardiac_phantom", shape=shape, **sizes),
        degradation=Degradation(acceleration=FACTOR, **degradation),
        teacher_network=teacher,
        student_network=student,
        schedule=Schedule(steps=1, batch=batch),
        seed=0,
        distillation=Distillation(),
        precision="auto",
    )


def _images(shape: tuple[int, int], count: int = 32) -> Tensor:
    volume = subject_volume(np.random.default_rng(0), count, shape)
    return torch.from_numpy(volume / volume.max()).unsqueeze(1)


def _heading(threads: int, size: str) -> str:
    return f"{processor_name()}; {threads} threads; {size}; whole training steps, medians"


def training_throughput(threads: int = 2, seconds: float = 8.0) -> str:
    """Time training steps of both networks' teachers and students, and return two tables as text."""
    torch.set_num_threads(threads)
    cascades = _recipe("dccnn", SHAPE, BATCH, DCCNN)
    stack = _recipe("vdsr", (128, 128), 1, VDSR, kind="truncation")
    return "\n\n".join(
        [
            _throughput(threads, seconds, cascades, PlainDCCNN, DCCNN),
            _throughput(threads, seconds, stack, PlainVDSR, VDSR),
        ]
    )


def _throughput(threads: int, seconds: float, recipe: Recipe, plain_network: type, sizes: dict[str, int]) -> str:
    mask, batch = declared_mask(recipe.dataset, recipe.degradation), recipe.schedule.batch
    images, rows = _images(mask.shape), []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "slices.h5"
        with h5py.File(file, "w") as data:
            data.create_dataset("volume", data=images[:, 0].numpy(), chunks=(1, *mask.shape))
        for (name, convolutions), run in zip(sizes.items(), (recipe.teacher, recipe.student), strict=True):
            torch.manual_seed(0)
            steps = {"plain, float32": _plain_step(file, plain_network(mask, convolutions), batch)}
            steps |= {p: study_step(run, p, images) for p in _precisions()}
            rates = in_turns(steps, seconds, batch)
            plain = rates["plain, float32"]
            rows += [{"network": name, "training": p, "slices/s": r, "ratio": r / plain} for p, r in rates.items()]
    table = pd.DataFrame(rows).round({"slices/s": 1, "ratio": 2}).to_string(index=False)
    return f"{_heading(threads, f'{mask.shape[0]}x{mask.shape[1]}, batch {batch}')}\n{table}"


def _objectives() -> dict[str, Run]:
    """What trains, by label; by losses that ask the teacher once also with the teacher at each step."""
    recipe = _recipe("dccnn", SHAPE, BATCH, DCCNN)
    found = {"reconstruction": recipe.student, "imitation": recipe.distilled(None)}
    found |= {label(name): recipe.pretrained(name) for name in FEATURE_LOSSES}
    once = {name: run for name, run in found.items() if Objective(run.objective).asks_once}
    return found | {f"{k}{LIVE}": run.model_copy(update={"teacher_asked": "each step"}) for k, run in once.items()}


def _loss_step(name: str, precision: str) -> Callable[[int], None]:
    return study_step(_objectives()[name], precision, _images(SHAPE, 8))


def _peak_of(name: str, precision: str, threads: int) -> float:
    """Peak memory in MB of a process that does nothing but three steps with this loss."""
    torch.set_num_threads(threads)
    step = _loss_step(name, precision)
    for number in range(3):
        step(number)
    return peak_memory()


def loss_costs(threads: int = 2, seconds: float = 8.0, precision: str = "auto") -> str:
    """Time and peak memory of a training step of the student with each loss: what asks the teacher at each step, with its
    forward pass; what asks once, by its answers, and beside it with the teacher at each step."""
    torch.set_num_threads(threads)
    names = list(_objectives())
    rates = in_turns({name: _loss_step(name, precision) for name in names}, seconds, BATCH)
    # A process each, started anew: what one loss leaves allocated mustn't count for the next.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {name: pool.apply(_peak_of, (name, precision, threads)) for name in names}
    attention = rates[label("attention_transfer")]
    rows = [
        {
            "loss": name,
            "ms per step": 1000 * BATCH / rates[name],
            "of attention transfer": attention / rates[name],
            "of reconstruction": rates["reconstruction"] / rates[name],
            "peak MB": peaks[name],
        }
        for name in names
    ]
    rounded = pd.DataFrame(rows).round(
        {"ms per step": 1, "of attention transfer": 2, "of reconstruction": 2, "peak MB": 0}
    )
    heading = _heading(threads, f"student at {SHAPE[0]}x{SHAPE[1]}, batch {BATCH}, precision {precision}")
    return f"{heading}\n{rounded.to_string(index=False)}"


def _precisions() -> tuple[str, ...]:
    """What this CPU computes in: bfloat16 where it only emulates it takes some 70 times as long as float32."""
    return ("float32", "bfloat16") if cpu_has_bfloat16() else ("float32",)


def matrix_rates(size: int = 2048, seconds: float = 1.0) -> dict[str, float]:
    """GFLOP/s that a large matrix product reaches here, by precision; by the threads that PyTorch has now."""
    rates = {}
    for name in _precisions():
        a, b = torch.rand(2, size, size).to(getattr(torch, name))
        times, began = [], time.perf_counter()
        while time.perf_counter() - began < seconds or len(times) < 3:
            start = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - start)
        rates[name] = 2 * size**3 / float(np.median(times)) / 1e9
    return rates


def where_time_goes(threads: int = 2, precision: str = "auto", steps: int = 10) -> str:
    """Profile of the student's training step, operation by operation, and its rate beside a large matrix product's."""
    torch.set_num_threads(threads)
    step = _loss_step("reconstruction", precision)
    for number in range(3):
        step(number)
    began = time.perf_counter()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for number in range(steps):
            step(number)
    seconds = (time.perf_counter() - began) / steps
    events = sorted(profile.key_averages(), key=lambda e: -e.self_cpu_time_total)
    whole = sum(e.self_cpu_time_total for e in events)
    rows = [
        {"operation": e.key, "of the step": f"{e.self_cpu_time_total / whole:.1%}", "calls per step": e.count / steps}
        for e in events[:14]
    ]
    weights = multiply_accumulates(plain_network(_objectives()["reconstruction"].network))
    # Forward, and backward to weights and to inputs: three passes of two operations per multiply-accumulate.
    rate = 6 * weights * SHAPE[0] * SHAPE[1] * BATCH / seconds / 1e9
    product = matrix_rates()["bfloat16" if cpu_has_bfloat16() and precision != "float32" else "float32"]
    heading = _heading(threads, f"student at {SHAPE[0]}x{SHAPE[1]}, batch {BATCH}, precision {precision}, profiled")
    table = pd.DataFrame(rows).to_string(index=False)
    return (
        f"{heading}\n{table}\n{1000 * seconds:.1f} ms per step; convolutions {rate:.0f} GFLOP/s over the whole step, "
        f"{rate / product:.0%} of a matrix product's {product:.0f}"
    )
