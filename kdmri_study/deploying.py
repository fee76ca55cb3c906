"""Taking a run's network away: its exported file, and what faster ways to compute it lose."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from kdmri_lib.channels import as_channels, magnitude
from kdmri_lib.datasets import people
from kdmri_lib.datasets.framing import padded
from kdmri_lib.datasets.prepared import Slices, Volume
from kdmri_lib.deployment.export import INNER, about_mask, quantise
from kdmri_lib.deployment.export import export as write_network
from kdmri_lib.deployment.model import FORMAT, Model
from kdmri_lib.devices import cpu_has_bfloat16
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import evaluate, psnr, reconstruct
from kdmri_lib.models.base import parameter_count
from kdmri_lib.operators import Measurement
from kdmri_lib.storage import sha256_file
from kdmri_study.build import declared_mask, declared_operator, run_network
from kdmri_study.runs import RunFolder


def about_run(folder: RunFolder) -> dict:
    """What the file says of itself."""
    run = folder.run
    return {
        "format": FORMAT,
        "run": run.id,
        "dataset": run.dataset.name,
        "domain": run.dataset.domain or "magnitude",
        "acceleration": run.degradation.acceleration,
        "mask": about_mask(declared_mask(run.dataset, run.degradation), f"run {run.id}"),
        "normalisation": "divided by the maximum of the volume's zero-filled magnitude",
        "parameters": parameter_count(run_network(run)),
        "precision": "float32",
        "weights_sha256": sha256_file(folder.weights),
        "data_sha256": folder.inputs["data"],
        "commit": folder.record["commit"],
        "result": folder.study.profile.result,
    }


def export(folder: RunFolder, path: Path) -> float:
    """Write the run's network at `path` (.onnx) and its weights beside it (.safetensors).

    Returns
    -------
    The largest difference to PyTorch on training slices or, where these aren't prepared, on a person's.

    Raises
    ------
    StudyError
        When the run isn't finished, its mask isn't made of lines, or ONNX Runtime doesn't agree with PyTorch; then no file
        is left.
    """
    state = folder.state()
    if state != "finished":
        how = f"./run_all.sh --profile {folder.study.source} trains it"
        missing = folder.failed if state == "failed" else f"run {folder.run.id}: {state}; {how}"
        raise StudyError(f"there is no network to export: {missing}")
    return write_network(folder.network(), declared_operator(folder.run), about_run(folder), _shown(folder), path)


def _shown(folder: RunFolder) -> torch.Tensor:
    """Three slices (3, C, H, W) of at most 1 that a network is shown, as its training showed them where that is there."""
    dataset = folder.run.dataset
    if folder.study.prepared(dataset.name).exists():
        slices = Slices(folder.study.prepared(dataset.name), "train")
        return slices[[0, len(slices) // 2, len(slices) - 1]]
    image, _ = people.make(str(people.FOLDER / people.PEOPLE["colin27"].file), 3)
    image = np.stack([padded(one, dataset.shape) for one in image / image.max()])
    return as_channels(image if dataset.channels == 1 else (np.exp(0.5j) * image).astype(np.complex64))


def calibration_slices(folder: RunFolder, count: int = 32) -> Iterator[Measurement]:
    """Undersampled training slices, spread over the split: (1, C, H, W) each; `StudyError` where they aren't prepared."""
    prepared = folder.study.prepared(folder.run.dataset.name)
    if not prepared.exists():
        raise StudyError(
            f"{prepared}: no such file; int8 is calibrated on training slices (python -m kdmri_lib prepare --profile "
            f"{folder.study.source} {folder.run.dataset.name} makes them)"
        )
    slices = Slices(prepared, "train")
    operator = declared_operator(folder.run)
    for n in np.linspace(0, len(slices) - 1, min(count, len(slices))).round().astype(int).tolist():
        yield operator(slices[[n]])


def as_network(model: Model) -> Callable:
    """An exported model as `evaluate` calls a network: tensors (B, C, H, W) in and out."""

    def network(zero_filled: torch.Tensor, measured_image: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(model.run(zero_filled.contiguous().numpy(), measured_image.contiguous().numpy()))

    return network


def quality_of_ways(folder: RunFolder, path: Path, volumes: Sequence[Volume]) -> pd.DataFrame:
    """PSNR (dB) and SSIM per volume of each way to compute a run's network, and the PSNR that it loses to float32.

    `path` : its exported file, beside which int8 versions are written; of a run that failed there is none. bfloat16 is
    among the ways where the CPU has it, since emulated it takes some 70 times as long as float32.
    """
    ways = {"PyTorch, float32": folder.network()}
    if cpu_has_bfloat16():
        ways["PyTorch, bfloat16"] = torch.autocast("cpu", torch.bfloat16)(folder.network().forward)
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
        usual = magnitude(reconstruct(network, operator, volume.image))
        pairs = {"by the zero-filled maximum": own, "by the true maximum": usual}
        rows.append({label: psnr(magnitude(volume.image), image, 1.0) for label, image in pairs.items()})
    return pd.DataFrame(rows)
