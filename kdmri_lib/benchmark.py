"""How fast training is, beside the same network written plainly: `python -m kdmri_lib benchmark`."""

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

from kdmri_lib.datasets.cardiac_phantom import subject_volume
from kdmri_lib.declarations import LossTerm
from kdmri_lib.losses import Objective, Prediction
from kdmri_lib.models import build_model
from kdmri_lib.provenance import processor_name
from kdmri_lib.sampling import Undersampling, published_mask
from kdmri_lib.training import Batches, accelerated

SHAPE, BATCH, FACTOR = (150, 150), 4, 4
CONVOLUTIONS = {"teacher": 5, "student": 3}


class PlainDCCNN(nn.Module):
    """DC-CNN as one would first write it: float32, and data consistency by complex float64 FFTs in each cascade."""

    def __init__(self, mask: np.ndarray, convolutions: int, cascades: int = 5, features: int = 32):
        super().__init__()
        self.mask = torch.from_numpy(mask)

        def cascade() -> nn.Sequential:
            channels = [1] + [features] * (convolutions - 1) + [1]
            layers: list[nn.Module] = []
            for inputs, outputs in pairwise(channels):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            return nn.Sequential(*layers[:-1])

        self.cascades = nn.ModuleList(cascade() for _ in range(cascades))

    def forward(self, zero_filled: Tensor, kspace: Tensor) -> Tensor:
        image = zero_filled
        for cascade in self.cascades:
            predicted = torch.fft.fft2((image + cascade(image)).double(), norm="ortho")
            image = torch.fft.ifft2(torch.where(self.mask, kspace, predicted), norm="ortho").real.float()
        return image


def _rates(steps: dict[str, Callable[[int], None]], seconds: float) -> dict[str, float]:
    """Median slices a second of each step, in turns of a second, so that a busy moment of the machine meets all alike."""
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
            rates[name].append(done * BATCH / (time.perf_counter() - began))
    return {name: float(np.median(values)) for name, values in rates.items()}


def _plain_step(file: Path, mask: np.ndarray, convolutions: int) -> Callable[[int], None]:
    torch.manual_seed(0)
    network = PlainDCCNN(mask, convolutions)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)

    def step(_: int) -> None:
        with h5py.File(file) as data:
            target = torch.stack(
                [torch.from_numpy(data["volume"][rng.integers(len(data["volume"]))]) for _ in range(BATCH)]
            )
        target = target.unsqueeze(1)
        kspace = torch.fft.fft2(target.double(), norm="ortho") * network.mask
        output = network(torch.fft.ifft2(kspace, norm="ortho").abs().float(), kspace)
        loss = (output - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _study_step(images: Tensor, mask: np.ndarray, convolutions: int, precision: str) -> Callable[[int], None]:
    torch.manual_seed(0)
    fabric = accelerated(precision)
    network = build_model("dccnn", mask, convolutions=convolutions).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    network, optimizer = fabric.setup(network, optimizer)
    degradation = fabric.to_device(Undersampling(mask))
    objective = Objective((LossTerm(loss="reconstruction"),))
    batches = Batches(images.to(fabric.device), BATCH, seed=0)

    def step(number: int) -> None:
        target = batches(number)
        loss = objective(target, Prediction(network(*degradation(target)), {}), None)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        loss.item()

    return step


def training_throughput(threads: int = 2, seconds: float = 8.0) -> str:
    """Time training steps of teacher and student at 150 x 150, batch 4, and return a table as text."""
    torch.set_num_threads(threads)
    mask = published_mask("cardiac", FACTOR)
    volume = subject_volume(np.random.default_rng(0), 32, SHAPE)
    images = torch.from_numpy(volume / volume.max()).unsqueeze(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "slices.h5"
        with h5py.File(file, "w") as data:
            data.create_dataset("volume", data=images[:, 0].numpy(), chunks=(1, *SHAPE))
        for name, convolutions in CONVOLUTIONS.items():
            steps = {p: _study_step(images, mask, convolutions, p) for p in ("float32", "bfloat16")}
            rates = _rates({"plain, float32": _plain_step(file, mask, convolutions), **steps}, seconds)
            plain = rates["plain, float32"]
            rows += [{"network": name, "training": p, "slices/s": r, "ratio": r / plain} for p, r in rates.items()]
    table = pd.DataFrame(rows).round({"slices/s": 1, "ratio": 2}).to_string(index=False)
    size = f"{SHAPE[0]}x{SHAPE[1]}, batch {BATCH}"
    return f"{processor_name()}; {threads} threads; {size}; whole training steps, medians\n{table}"
