"""What faster ways to compute a network lose: the same test volumes through each."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from kdmri_lib.datasets.prepared import Volume
from kdmri_lib.deployment.export import INNER, calibration_slices, quantise
from kdmri_lib.deployment.model import Model
from kdmri_lib.evaluation import evaluate, psnr, reconstruct
from kdmri_lib.study.build import declared_operator
from kdmri_lib.study.runs import RunFolder


def as_network(model: Model) -> Callable:
    """An exported model as `evaluate` calls a network: tensors (B, 1, H, W) in and out."""

    def network(zero_filled: torch.Tensor, measured_image: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(model.run(zero_filled.contiguous().numpy(), measured_image.contiguous().numpy()))

    return network


def quality_of_ways(folder: RunFolder, path: Path, volumes: Sequence[Volume]) -> pd.DataFrame:
    """PSNR (dB) and SSIM per volume of each way to compute a run's network, and the PSNR that it loses to float32.

    `path` : its exported file, beside which int8 versions are written; of a run that failed there is none.
    """
    ways = {
        "PyTorch, float32": folder.network(),
        "PyTorch, bfloat16": torch.autocast("cpu", torch.bfloat16)(folder.network().forward),
    }
    if not folder.failed:
        ways |= {
            "ONNX Runtime, float32": as_network(Model(path, "onnxruntime", "float32")),
            "OpenVINO, float32": as_network(Model(path, "openvino", "float32")),
            "OpenVINO, its own precision": as_network(Model(path)),
        }
        for number, kept in enumerate(("nothing", "first and last", INNER)):
            small = path.with_name(f"{path.stem}.int8-{number}.onnx")
            quantise(path, small, calibration_slices(folder), kept)
            ways[f"int8, kept in float32: {kept}"] = as_network(Model(small, "openvino", "float32"))
    operator = declared_operator(folder.run)
    means = {label: evaluate(way, operator, volumes)[0][["psnr", "ssim"]].mean() for label, way in ways.items()}
    table = pd.DataFrame(means).T.rename_axis("computed by").reset_index()
    return table.assign(**{"psnr lost": table.psnr[0] - table.psnr})


def scales(folder: RunFolder, path: Path, volumes: Sequence[Volume]) -> pd.DataFrame:
    """PSNR (dB) per volume, divided by the maximum that a scanner knows, its zero-filled image's, and by the true one."""
    model, network, operator = Model(path, "onnxruntime", "float32"), folder.network(), declared_operator(folder.run)
    rows = []
    for volume in volumes:
        own = model.reconstruct(np.fft.fft2(volume.image, norm="ortho"), batch=4)
        usual = reconstruct(network, operator, volume.image)
        pairs = {"by the zero-filled maximum": own, "by the true maximum": usual}
        rows.append({label: psnr(volume.image, image, 1.0) for label, image in pairs.items()})
    return pd.DataFrame(rows)
