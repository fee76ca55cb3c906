"""What networks cost where they run: time and memory per slice of each way to compute them, beside a plain one."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.training import DCCNN, PlainDCCNN, matrix_rates
from kdmri_lib.deployment.export import about_mask, quantise, stamped, to_onnx
from kdmri_lib.deployment.model import FORMAT, Model, has_bfloat16
from kdmri_lib.masks import published_mask
from kdmri_lib.models.base import build_model, multiply_accumulates, parameter_count
from kdmri_lib.operators import Measurement, Undersampling
from kdmri_lib.storage import PROJECT
from kdmri_study.provenance import processor_name

PLAIN = "plain, float32"
WARM_UP = 3

Step = Callable[[], object]


def timed(step: Step, seconds: float) -> dict[str, float]:
    """Median, quartiles (ms) and number of calls in `seconds`, after `WARM_UP` calls that don't count."""
    for _ in range(WARM_UP):
        step()
    times, began = [], time.perf_counter()
    while time.perf_counter() - began < seconds or len(times) < 5:
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    low, median, high = np.percentile(times, [25, 50, 75])
    return {"ms": median, "q25": low, "q75": high, "calls": len(times)}


def _untrained(mask: np.ndarray, convolutions: int) -> nn.Module:
    torch.manual_seed(0)
    return build_model("dccnn", mask, convolutions=convolutions).eval()


def _file(network: nn.Module, mask: np.ndarray, folder: Path) -> Path:
    """An exported file of an untrained network."""
    path = folder / "network.onnx"
    about = {"format": FORMAT, "mask": about_mask(mask, "untrained network"), "precision": "float32"}
    path.write_bytes(stamped(to_onnx(network, about["mask"]["axis"], mask.shape), about))
    return path


def _torch_step(network: nn.Module, measurement: Measurement, bfloat16: bool = False, compiled: bool = False) -> Step:
    network = network.to(memory_format=torch.channels_last)
    network = torch.compile(network) if compiled else network

    @torch.inference_mode()
    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return network(*measurement)

    return step


def _gpu_step(network: nn.Module, measurement: Measurement, bfloat16: bool) -> Step:
    network = network.to("cuda", memory_format=torch.channels_last)
    measurement = Measurement(*(v.cuda() for v in measurement))

    @torch.inference_mode()
    def step():
        with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
            network(*measurement)
        torch.cuda.synchronize()

    return step


def _model_step(path: Path, measurement: Measurement, engine: str, precision: str, threads: int) -> Step:
    model = Model(path, engine=engine, precision=precision, threads=threads)
    inputs = [v.numpy() for v in measurement]
    return lambda: model.run(*inputs)


class Exported(NamedTuple):
    """An untrained network of the paper's kind, and its exported files."""

    network: nn.Module
    convolutions: int
    mask: np.ndarray
    file: Path
    int8: Path


def exported(mask: np.ndarray, convolutions: int, folder: Path) -> Exported:
    """Export a network with untrained weights, on which time doesn't depend, and quantise it."""
    network = _untrained(mask, convolutions)
    path, small = _file(network, mask, folder), folder / "int8.onnx"
    quantise(path, small, [Undersampling(mask)(torch.rand(1, 1, *mask.shape))])
    return Exported(network, convolutions, mask, path, small)


def implementations(
    given: Exported, threads: int, batch: int = 1, compiled: bool = False
) -> dict[str, Callable[[], Step]]:
    """Ways to compute a network on images of its mask's size; each is made when called.

    `compiled` : also `torch.compile`, which takes half a minute and needs a C++ compiler.
    """
    torch.set_num_threads(threads)
    network, mask, path, small = given.network, given.mask, given.file, given.int8
    image = torch.rand(batch, 1, *mask.shape, generator=torch.Generator().manual_seed(0))
    measurement = Undersampling(mask)(image)

    def plain() -> Step:
        model = PlainDCCNN(mask, given.convolutions).eval()
        kspace = torch.fft.fft2(image.double(), norm="ortho") * torch.from_numpy(mask)

        @torch.inference_mode()
        def step():
            return model(measurement.zero_filled, kspace)

        return step

    found = {
        PLAIN: plain,
        "PyTorch channels_last, float32": lambda: _torch_step(network, measurement),
        "ONNX Runtime, float32": lambda: _model_step(path, measurement, "onnxruntime", "float32", threads),
        "ONNX Runtime, int8": lambda: _model_step(small, measurement, "onnxruntime", "float32", threads),
        "OpenVINO, float32": lambda: _model_step(path, measurement, "openvino", "float32", threads),
        "OpenVINO, int8": lambda: _model_step(small, measurement, "openvino", "float32", threads),
    }
    if compiled:
        found["torch.compile, float32"] = lambda: _torch_step(network, measurement, compiled=True)
    if torch.cuda.is_available():
        found |= {
            f"GPU, {precision}": lambda precision=precision: _gpu_step(network, measurement, precision == "bfloat16")
            for precision in ("float32", "bfloat16")
        }
    if has_bfloat16():  # elsewhere it would be emulated, some 70 times as slowly as float32
        found["PyTorch channels_last, bfloat16"] = lambda: _torch_step(network, measurement, bfloat16=True)
        found["OpenVINO, bfloat16"] = lambda: _model_step(path, measurement, "openvino", "bfloat16", threads)
        found["OpenVINO, int8 in bfloat16 network"] = lambda: _model_step(
            small, measurement, "openvino", "bfloat16", threads
        )
    return found


PEAK = "\nfrom benchmarks.memory import peak_memory; print(peak_memory())"


def _peak(code: str, *arguments) -> float:
    """Peak memory (MB) of a Python process that runs `code` and nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", code + PEAK, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT,
    )
    return float(done.stdout.split()[-1])


def peak_memories(mask: np.ndarray, convolutions: int, threads: int = 2) -> dict[str, float]:
    """Peak memory (MB) of a process that reconstructs one slice, by implementation: libraries and network included."""
    plain = """
import sys, numpy, torch
from benchmarks.training import PlainDCCNN
mask = numpy.load(sys.argv[1]); torch.set_num_threads(int(sys.argv[3]))
image = torch.rand(1, 1, *mask.shape)
with torch.inference_mode():
    PlainDCCNN(mask, int(sys.argv[2]))(image, torch.fft.fft2(image.double(), norm="ortho"))
"""
    deployed = """
import sys, numpy
from kdmri_lib.deployment import Model
model = Model(sys.argv[1], engine=sys.argv[2], threads=int(sys.argv[3]))
image = numpy.random.default_rng(0).random((1, *model.shape))
model.reconstruct(numpy.fft.fft2(image, norm="ortho").astype(numpy.complex64))
"""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "mask.npy", mask)
        path = _file(_untrained(mask, convolutions), mask, Path(folder))
        return {
            PLAIN: _peak(plain, Path(folder) / "mask.npy", convolutions, threads),
            "ONNX Runtime, float32": _peak(deployed, path, "onnxruntime", threads),
            "OpenVINO, its own precision": _peak(deployed, path, "openvino", threads),
        }


def inference_times(
    mask: np.ndarray,
    settings: Sequence[tuple[int, int]] = ((2, 1),),
    seconds: float = 2.0,
    only: Sequence[str] = (),
    compiled: bool = False,
) -> pd.DataFrame:
    """Times of teacher and student (cascades 5, features 32) in every implementation, or in `only` some.

    `settings` : (threads, batch) to measure. Columns: network, implementation, threads, batch, ms, q25 and q75 a call, its
    number of calls, slices/s, GFLOP/s of the convolutions and their share of what a matrix product of the precision
    reaches (for those in float32 or bfloat16), and how many times faster than the plain teacher and the plain student in
    the same setting. An implementation that this machine can't run has no numbers.
    """
    rows = []
    for name, convolutions in DCCNN.items():
        with tempfile.TemporaryDirectory() as folder:
            given = exported(mask, convolutions, Path(folder))
            for threads, batch in settings:
                torch.set_num_threads(threads)
                rates = matrix_rates(seconds=min(seconds, 1))
                for label, make in implementations(given, threads, batch, compiled).items():
                    if not only or label in only:
                        row = {"network": name, "implementation": label, "threads": threads, "batch": batch}
                        rows.append(row | _measured(make, given, batch, rates.get(label.rsplit(" ", 1)[1]), seconds))
    table = pd.DataFrame(rows)
    for name in DCCNN:
        plain = table[(table.network == name) & (table.implementation == PLAIN)].set_index(["threads", "batch"]).ms
        table[f"of plain {name}"] = plain.reindex(table.set_index(["threads", "batch"]).index).to_numpy() / table.ms
    return table


def _measured(make: Callable[[], Step], given: Exported, batch: int, rate: float | None, seconds: float) -> dict:
    """A row's numbers; none where the machine can't run it."""
    try:
        found = timed(make(), seconds)
    except Exception:  # torch.compile needs a compiler, for one, and each runtime raises kinds of its own
        return {"ms": np.nan}
    reached = 2 * multiply_accumulates(given.network) * given.mask.size * batch / found["ms"] / 1e6
    share = reached / rate if rate else np.nan
    return {**found, "slices/s": 1000 * batch / found["ms"], "GFLOP/s": reached, "of matrix product": share}


def sizes(mask: np.ndarray) -> pd.DataFrame:
    """Parameters and multiply-accumulates of one slice."""
    rows = []
    for name, convolutions in DCCNN.items():
        network = _untrained(mask, convolutions)
        rows.append(
            {
                "network": name,
                "parameters": parameter_count(network),
                "GMAC per slice": multiply_accumulates(network) * mask.size / 1e9,
            }
        )
    return pd.DataFrame(rows)


def inference_report(threads: int = 2, seconds: float = 2.0) -> str:
    """Every implementation at 640 x 368, batch 1, as text."""
    mask = published_mask("knee", 4)
    times = inference_times(mask, [(threads, 1)], seconds, compiled=True)
    shown = times.drop(columns=["threads", "batch"]).round(2).to_string(index=False, na_rep="")
    rates = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in matrix_rates().items())
    heading = f"{processor_name()}; {threads} threads; 640x368, batch 1, untrained networks; matrix product: {rates}"
    return f"{heading}\n{shown}"
