"""What training computes on: the GPU where there is one, bfloat16 where the hardware has it, the same bits each time."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FABRIC_PRECISION = {"bfloat16": "bf16-mixed", "float32": "32-true", "float64": "64-true"}

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # or it says at each start what run.json records


def accelerated(precision: str) -> Fabric:
    """Fabric on the GPU where there is one, else the CPU; bfloat16 autocast where the device computes in it.

    `precision` : "float32", "bfloat16", or "auto" for bfloat16 where the hardware has it; "float64", in which processors
    agree, for tests.
    """
    # Here, since its import takes longer than PyTorch's, and only trainings need it.
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Filling new memory only guards against reading it unwritten, and costs 8% of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    gpu = torch.cuda.is_available()
    if precision == "auto":
        native = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else cpu_has_bfloat16()
        precision = "bfloat16" if native else "float32"
    fabric = Fabric(
        accelerator="cuda" if gpu else "cpu",
        precision=FABRIC_PRECISION[precision],
        devices=1,
        # Said outright, since Fabric takes a SLURM job's variables for those of processes that train together.
        plugins=LightningEnvironment(),
    )
    fabric.launch()
    return fabric


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 (AVX-512 BF16 or AMX); elsewhere autocast would only emulate it."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


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


def use_threads(threads: int) -> None:
    """Fix the number of threads that PyTorch computes with; it decides the order of sums, hence the last bits."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
