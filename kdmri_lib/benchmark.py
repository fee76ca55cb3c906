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


def _rate(step: Callable[[int], None], seconds: float) -> float:
    """Slices a second of `step`, after three steps that don't count."""
    for number in range(3):
        step(number)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step(3 + steps)
        steps += 1
    return steps * BATCH / (time.perf_counter() - began)


def _plain_rate(file: Path, mask: np.ndarray, convolutions: int, seconds: float) -> float:
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

    return _rate(step, seconds)


def _study_rate(images: Tensor, mask: np.ndarray, convolutions: int, precision: str, seconds: float) -> float:
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

    return _rate(step, seconds)


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
            plain = _plain_rate(file, mask, convolutions, seconds)
            rates = {p: _study_rate(images, mask, convolutions, p, seconds) for p in ("float32", "bfloat16")}
            rows += [{"network": name, "training": "plain, float32", "slices/s": plain, "ratio": 1.0}]
            rows += [{"network": name, "training": p, "slices/s": r, "ratio": r / plain} for p, r in rates.items()]
    table = pd.DataFrame(rows).round({"slices/s": 1, "ratio": 2}).to_string(index=False)
    return f"{processor_name()}; {threads} threads; {SHAPE[0]}x{SHAPE[1]}, batch {BATCH}; whole training steps\n{table}"
