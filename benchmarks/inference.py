"""What networks cost where they run: time and memory per slice of each way to compute them, beside a plain one."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.training import DCCNN, PLAIN, PlainDCCNN, Step, timed
from kdmri_lib.deployment.export import about_mask, quantise, stamped, to_onnx
from kdmri_lib.deployment.model import FORMAT, Model, has_bfloat16
from kdmri_lib.models.base import Model as Network
from kdmri_lib.models.base import build_model, multiply_accumulates, parameter_count
from kdmri_lib.operators import UndersamplingOperator
from kdmri_lib.storage import PROJECT


@cache  # an export takes seconds
def _untrained(convolutions: int, mask: bytes, shape: tuple[int, int]) -> tuple[Network, bytes]:
    torch.manual_seed(0)
    mask = np.frombuffer(mask, bool).reshape(shape)
    network = build_model("dccnn", mask, convolutions=convolutions).eval()
    about = {"format": FORMAT, "mask": about_mask(mask, "untrained network"), "precision": "float32"}
    return network, stamped(to_onnx(network, about["mask"]["axis"], shape), about)


def exported(mask: np.ndarray, convolutions: int, folder: Path) -> tuple[Network, Path, Path]:
    """A network of so many convolutions a cascade, its file, and its file in int8; with untrained weights, on which time
    doesn't depend."""
    network, content = _untrained(convolutions, mask.tobytes(), mask.shape)
    file, int8 = folder / "network.onnx", folder / "int8.onnx"
    file.write_bytes(content)
    quantise(file, int8, [UndersamplingOperator(mask)(torch.rand(1, 1, *mask.shape))])
    return network.to(memory_format=torch.channels_last), file, int8


def _torch_step(network: nn.Module, inputs: Sequence[Tensor], device: str = "cpu", bfloat16: bool = False) -> Step:
    network, inputs = network.to(device), [v.to(device) for v in inputs]

    @torch.inference_mode()
    def step() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            image = network(*inputs)
        if device == "cuda":
            torch.cuda.synchronize()
        return image

    return step


def _model_step(inputs: Sequence[Tensor], threads: int, path: Path, engine: str, precision: str = "float32") -> Step:
    model = Model(path, engine=engine, precision=precision, threads=threads)
    return partial(model.run, *(v.numpy() for v in inputs))


def implementations(
    mask: np.ndarray, exported: tuple[Network, Path, Path], threads: int, batch: int = 1
) -> dict[str, Callable[[], Step]]:
    """Ways to compute an `exported` network on images of its mask's size, (H, W); each is made when called."""
    network, file, int8 = exported
    plain = PlainDCCNN(mask, len(network.feature_groups[0])).eval()
    image = torch.rand(batch, 1, *mask.shape, generator=torch.Generator().manual_seed(0))
    inputs, kspace = UndersamplingOperator(mask)(image), torch.fft.fft2(image.double(), norm="ortho") * plain.mask
    in_torch, deployed = partial(partial, _torch_step, network, inputs), partial(partial, _model_step, inputs, threads)
    found = {
        PLAIN: partial(_torch_step, plain, (inputs.zero_filled, kspace)),
        "PyTorch channels_last, float32": in_torch(),
        "ONNX Runtime, float32": deployed(file, "onnxruntime"),
        "ONNX Runtime, int8": deployed(int8, "onnxruntime"),
        "OpenVINO, float32": deployed(file, "openvino"),
        "OpenVINO, int8": deployed(int8, "openvino"),
    }
    if torch.cuda.is_available():
        found |= {"GPU, float32": in_torch("cuda"), "GPU, bfloat16": in_torch("cuda", bfloat16=True)}
    if has_bfloat16():  # elsewhere it would be emulated, some 70 times as slowly as float32
        found["PyTorch channels_last, bfloat16"] = in_torch(bfloat16=True)
        found["OpenVINO, bfloat16"] = deployed(file, "openvino", "bfloat16")
        found["OpenVINO, int8 in bfloat16 network"] = deployed(int8, "openvino", "bfloat16")
    return found


def matrix_rates(seconds: float = 1.0, size: int = 2048) -> dict[str, float]:
    """GFLOP/s that a large matrix product reaches here, by precision, on the threads that PyTorch has now."""
    rates = {}
    for precision in ("float32", "bfloat16") if has_bfloat16() else ("float32",):
        a, b = torch.rand(2, size, size).to(getattr(torch, precision))
        rates[precision] = 2 * size**3 / timed(partial(torch.mm, a, b), seconds)["ms"] / 1e6
    return rates


def inference_times(mask: np.ndarray, settings: Sequence[tuple[int, int]], seconds: float) -> pd.DataFrame:
    """Times of teacher and student (cascades 5, features 32) in every implementation.

    `settings` : (threads, batch) to measure. Columns: network, implementation, threads, batch, ms, q25 and q75 a call, its
    number of calls, slices/s, GFLOP/s of the convolutions and their share of what a matrix product of the precision
    reaches (for those in float32 or bfloat16), and how many times faster than the plain teacher and the plain student in
    the same setting. An implementation that this machine can't run has no numbers.
    """
    rows, rates = [], {}
    for name, convolutions in DCCNN.items():
        with tempfile.TemporaryDirectory() as folder:
            made = exported(mask, convolutions, Path(folder))
            for threads, batch in settings:
                torch.set_num_threads(threads)
                operations = 2 * multiply_accumulates(made[0]) * mask.size * batch
                if threads not in rates:
                    rates[threads] = matrix_rates(min(seconds, 1))
                for label, make in implementations(mask, made, threads, batch).items():
                    row = {"network": name, "implementation": label, "threads": threads, "batch": batch, "ms": np.nan}
                    with contextlib.suppress(Exception):  # what can't run here; each runtime raises kinds of its own
                        row |= timed(make(), seconds)
                    row |= {"slices/s": 1000 * batch / row["ms"], "GFLOP/s": operations / row["ms"] / 1e6}
                    most = rates[threads].get(label.split()[-1], np.nan)
                    rows.append(row | {"of matrix product": row["GFLOP/s"] / most})
    table, setting = pd.DataFrame(rows), ["threads", "batch"]
    plain = table[table.implementation == PLAIN].pivot(index=setting, columns="network", values="ms")[[*DCCNN]]
    beside = table[setting].join(plain.add_prefix("of plain "), on=setting).drop(columns=setting)
    return table.join(beside.div(table.ms, axis=0))


PLAIN_SLICE = """
import sys, numpy, torch
from benchmarks.training import PlainDCCNN
convolutions, threads, *shape = map(int, sys.argv[1:])
torch.set_num_threads(threads)
with torch.inference_mode():
    image = torch.rand(1, 1, *shape)
    PlainDCCNN(numpy.ones(shape, bool), convolutions)(image, torch.fft.fft2(image.double(), norm="ortho"))
"""
DEPLOYED_SLICE = """
import sys, numpy
from kdmri_lib.deployment import Model
model = Model(sys.argv[1], engine=sys.argv[2], threads=int(sys.argv[3]))
image = numpy.random.default_rng(0).random((1, *model.shape))
model.reconstruct(numpy.fft.fft2(image, norm="ortho").astype(numpy.complex64))
"""
# The process's own, where `resource.getrusage` would begin with what its parent holds.
PEAK = "\nprint(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def peak_memory(code: str, *arguments: object) -> float:
    """The most memory (MB) that a Python process held which ran `code`, with `arguments` in `sys.argv` (Linux)."""
    command = [sys.executable, "-c", code + PEAK, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    return int(done.stdout.split()[-1]) / 1024


def peak_memories(mask: np.ndarray, convolutions: int, threads: int = 2) -> dict[str, float]:
    """Peak memory (MB) of a process that reconstructs one slice, by implementation: libraries and network included."""
    with tempfile.TemporaryDirectory() as folder:
        file = exported(mask, convolutions, Path(folder))[1]
        return {
            PLAIN: peak_memory(PLAIN_SLICE, convolutions, threads, *mask.shape),
            "ONNX Runtime, float32": peak_memory(DEPLOYED_SLICE, file, "onnxruntime", threads),
            "OpenVINO, its own precision": peak_memory(DEPLOYED_SLICE, file, "openvino", threads),
        }


def sizes(mask: np.ndarray) -> pd.DataFrame:
    """Parameters and multiply-accumulates of one slice."""
    rows = []
    for name, convolutions in DCCNN.items():
        network = build_model("dccnn", mask, convolutions=convolutions)
        work = multiply_accumulates(network) * mask.size / 1e9
        rows.append({"network": name, "parameters": parameter_count(network), "GMAC per slice": work})
    return pd.DataFrame(rows)
