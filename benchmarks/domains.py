"""What complex images cost beside magnitudes: time of the same student, and PSNR at phases of one's choosing.

The README says it from `results/phase_costs.csv` and `results/domain_times.csv`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.training import in_turns, study_step
from kdmri_lib.datasets.prepared import Volume, test_volumes
from kdmri_lib.declarations import Run
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import evaluate
from kdmri_lib.storage import PROJECT, atomic_write
from kdmri_study.build import declared_network, declared_operator
from kdmri_study.provenance import processor_name
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study

PHASES, TIMES = (PROJECT / "results" / name for name in ("phase_costs.csv", "domain_times.csv"))
METHODS = ("student", "distilled")
CONSTANT = (np.pi / 2, np.pi)  # rad, everywhere
SMOOTH = (1.0, 1.5, 3.0)  # rad, at most, to one side; to the other a good half


def smooth_phase(shape: tuple[int, int], radians: float) -> np.ndarray:
    """exp(i phase), (H, W), of a phase that is quadratic over the field of view and reaches `radians` to one side."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    field = 0.6 * rows + 0.5 * rows * columns - columns**2
    field -= field.mean()
    return np.exp(1j * radians * field / np.abs(field).max())


def phases(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """exp(i phase) by what tables call it."""
    constant = {f"{angle:.2f} rad everywhere": np.full(shape, np.exp(1j * angle)) for angle in CONSTANT}
    return (
        {"0": np.ones(shape)}
        | constant
        | {f"smooth, to {radians:g} rad": smooth_phase(shape, radians) for radians in SMOOTH}
    )


def _psnr(run: RunFolder, volumes: list[Volume]) -> float:
    return float(evaluate(run.network(), declared_operator(run.run), volumes)[0].psnr.mean())


def phase_costs(study: Study) -> pd.DataFrame:
    """Mean PSNR (dB) of test volumes, magnitudes put at phases, by the complex networks that are trained; and of the same
    magnitudes by the magnitude networks of the same budget."""
    rows = []
    for cells in study.arms:
        images = [v for v in test_volumes(study.prepared(cells[0].dataset)) if v.split == "test"]
        for seed in study.profile.seeds:
            for method in METHODS:
                of_magnitudes, of_complex = (RunFolder(study, study.methods(cell, seed)[method]) for cell in cells)
                if {of_magnitudes.state(), of_complex.state()} != {"finished"}:
                    continue
                about = {
                    "dataset": cells[0].dataset,
                    "acceleration": cells[0].acceleration,
                    "seed": seed,
                    "method": method,
                }
                rows.append(about | {"network": "magnitude", "phase": "0", "psnr": _psnr(of_magnitudes, images)})
                for name, phase in phases(images[0].image.shape[1:]).items():
                    put = [replace(v, image=(v.image * phase).astype(np.complex64)) for v in images]
                    rows.append(about | {"network": "complex", "phase": name, "psnr": _psnr(of_complex, put)})
    if not rows:
        raise StudyError(f"{study.results}: no cell whose magnitude and complex networks are both trained")
    return pd.DataFrame(rows)


def _inference(run: Run) -> Callable[[int], None]:
    network = declared_network(run).eval()
    channels = torch.randn(1, run.dataset.channels, *run.dataset.shape)
    measurement = declared_operator(run)(channels)

    def one(_: int) -> None:
        with torch.inference_mode():
            network(*measurement)

    return one


def times(threads: int, seconds: float) -> pd.DataFrame:
    """Milliseconds of a student's training step and of a slice's reconstruction, both domains in turns, float32."""
    torch.set_num_threads(threads)
    study = Study("domains")
    rows = []
    for cells in study.arms:
        runs = {
            name: study.methods(cell, 0)["student"] for name, cell in zip(("magnitude", "complex"), cells, strict=True)
        }
        for what in ("training step", "inference"):
            made = {
                name: _inference(run)
                if what == "inference"
                else study_step(run, "float32", torch.randn(8, run.dataset.channels, *run.dataset.shape))
                for name, run in runs.items()
            }
            ms = {name: 1000 / rate for name, rate in in_turns(made, seconds, 1).items()}
            about = {"dataset": cells[0].dataset, "acceleration": cells[0].acceleration, "what": what}
            about |= {"threads": threads, "processor": processor_name()}
            rows.append(about | ms | {"ratio": ms["complex"] / ms["magnitude"]})
    return pd.DataFrame(rows)


def measure_times(threads: int, seconds: float) -> str:
    """`times`, written down for the README."""
    return _written(times(threads, seconds), TIMES)


def measure_phases(study: Study) -> str:
    """`phase_costs`, written down for the README."""
    return _written(phase_costs(study), PHASES)


def _written(table: pd.DataFrame, path: Path) -> str:
    with atomic_write(path) as temporary:
        table.round(4).to_csv(temporary, index=False)
    return f"{table.to_string(index=False)}\nwritten: {path}"
