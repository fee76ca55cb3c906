"""What training computes on: the GPU where there is one, bfloat16 where the hardware has it, the same bits each time."""

import os
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Processor(NamedTuple):
    """A device, and the precision that networks are computed in there: bfloat16 (by autocast), float32 or float64."""

    device: torch.device
    precision: torch.dtype

    def put(self, network: nn.Module) -> nn.Module:
        """A network on the device, its weights in float64 where that is the precision."""
        return (network.double() if self.precision == torch.float64 else network).to(self.device)

    def computing(self, network: Callable) -> Callable:
        """A network as it is called in this precision; what it gives is in PyTorch's default one."""
        if self.precision == torch.float32:
            return network

        def computed(*inputs, **more):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
                found = network(*_cast(inputs, self.precision), **more)
            return _cast(found, torch.get_default_dtype())

        return computed


def _cast(value, precision: torch.dtype):
    """Real tensors, also those in tuples and dictionaries, in another precision; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(_cast(item, precision) for item in value)
    if isinstance(value, dict):
        return {name: _cast(item, precision) for name, item in value.items()}
    return value.to(precision) if isinstance(value, Tensor) and value.is_floating_point() else value


def accelerated(precision: str) -> Processor:
    """The GPU where there is one, else the CPU; from here on PyTorch computes the same bits each time.

    `precision` : "float32", "bfloat16", or "auto" for bfloat16 where the hardware has it; "float64", in which processors
    agree, for tests.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("error")  # `use_deterministic_algorithms` imports a compiler, for seconds
    # Filling new memory only guards against reading it unwritten, and costs 8% of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    gpu = torch.cuda.is_available()
    if precision == "auto":
        native = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else cpu_has_bfloat16()
        precision = "bfloat16" if native else "float32"
    return Processor(torch.device("cuda" if gpu else "cpu"), getattr(torch, precision))


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX-512 BF16 or AMX); elsewhere autocast would only emulate it."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def computed_on(precision: str) -> dict[str, str]:
    """The "device" that training uses here, and the "precision" it computes in there."""
    device, found = accelerated(precision)
    threads = torch.get_num_threads()
    cpu = f"CPU, {threads} thread{'s' * (threads > 1)}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    return {"device": name, "precision": str(found).removeprefix("torch.")}


def use_threads(threads: int) -> None:
    """Fix the number of threads that PyTorch computes with; it decides the order of sums, hence the last bits."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
