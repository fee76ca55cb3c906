"""Committed weights, in `results/models/`: of each cell the teacher, the student alone (as published, and well initialised
for the distilled one's cost), the distilled one, and that of the best recipe, with a model card each."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from kdmri_lib.declarations import Run
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import METRICS
from kdmri_lib.masks import line_axis
from kdmri_lib.models.base import parameter_count
from kdmri_lib.statistics import interval
from kdmri_lib.storage import sha256_file, write_bytes, write_text
from kdmri_study.build import declared_mask, mask_file, run_network
from kdmri_study.costs import cost
from kdmri_study.evidence import record_of
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.metrics import untrained
from kdmri_study.profile import Cell
from kdmri_study.rendering import value
from kdmri_study.runs import WEIGHTS, RunFolder, named_run
from kdmri_study.study import Study

SHOWN = ("teacher", "student", "distilled", "he_compute", "best")
OF_A_CONTRAST = ("embedded_brain", "mrbrains", "knee_matlab")  # sources that a data set's contrast is of
LIMITS = {
    None: """Trained on generated images (virtual subjects or phantoms) unless the data say otherwise, on magnitudes without
phase or coils, with one undersampling mask; on k-space from a scanner, on other masks, contrasts or sizes it isn't right.
Its figures compare methods; they say nothing of patients. Not for clinical use.""",
    "complex": """Trained on generated complex images (virtual subjects or phantoms) unless the data say otherwise, at a
simulated smooth phase, of one coil, with one undersampling mask; on other masks, contrasts or sizes it isn't right, and no
scanner's k-space has tested it. Its figures compare methods; they say nothing of patients. Not for clinical use.""",
}


def model_files(study: Study, cell: Cell, method: str) -> tuple[Path, Path]:
    """Where the weights (safetensors) and the card of a cell's row lie."""
    folder = study.folder / "results" / "models"
    return folder / f"{cell.tag}_{method}.safetensors", folder / f"{cell.tag}_{method}.md"


def _rows(volumes) -> Iterator[str]:
    for (name, kind), block in volumes.groupby(["set", "kind"], sort=False):
        people = block.groupby("person")[list(METRICS)].mean(skipna=False)
        low, high = interval(people.psnr.to_numpy()[None])
        between = "–" if np.isnan(low) else f"{low:.2f} to {high:.2f}"
        mean, sd = people.mean(skipna=False), people.std(skipna=False)
        ssim = value(mean.ssim, sd.ssim, 4)
        yield f"| {name} ({kind}) | {len(people)} | {value(mean.psnr, sd.psnr, 2)} | {between} | {ssim} |"


def _worse_than_none(study: Study, run: Run, volumes: pd.DataFrame) -> str:
    """For whom the network is further from the truth than no network, in PSNR (dB), in words."""
    found = {"here": volumes, "none": untrained(study, run, "zero_filled")[0]}
    psnr = pd.DataFrame({name: v.groupby(["set", "person"], sort=False).psnr.mean() for name, v in found.items()})
    lost = [
        f"{person} of {name}, {row.here:.2f} dB (zero-filled {row.none:.2f})"
        for (name, person), row in psnr[psnr.here < psnr.none].iterrows()
    ]
    return f"Further from the truth than no network: {'; '.join(lost) or 'for none of them'}."


def card(study: Study, cell: Cell, method: str) -> str:
    """The model card of a cell's row, of the first seed, from its declaration, record and metrics."""
    run = study.methods(cell, study.profile.seeds[0])[method]
    folder, data = RunFolder(study, run), run.dataset
    mask, file = declared_mask(data, run.degradation), mask_file(data, run.degradation)
    axis, record, spent = line_axis(mask), folder.record, cost(run)
    lines = mask[:, 0] if axis == 0 else mask[0]
    source = f"as published ({file.name})" if file else "drawn by the published masks' rule"
    options = ", ".join(f"{key} {option}" for key, option in run.network.options.items())
    images = f"{data.source} ({data.contrast})" if data.source in OF_A_CONTRAST else data.source
    images += ", complex images" if data.domain == "complex" else ""
    weights = model_files(study, cell, method)[0].name
    return f"""# {METHODS[method]}, {cell.label}

`{weights}`: {run.network.kind} ({options}), {parameter_count(run_network(run)):,} parameters, float32.

| | |
|---|---|
| trained on | {data.train} subjects of {data.slices_per_volume or "all"} slices, {images} |
| grid | {data.shape[0]}×{data.shape[1]} |
| checkpoint chosen on | {data.validation} subjects, PSNR {folder.validation:.2f} dB |
| mask | {lines.sum()} of {len(lines)} lines, {cell.label}, {source} |
| objective | {" + ".join(term.loss for term in run.objective)} |
| steps, all stages | {spent.steps:,} |
| multiply-accumulates, teacher given / with its training | {spent.given:.3g} / {spent.whole:.3g} |
| seed, profile | {run.seed}, {study.name} |
| run, commit | {run.id}, {record["commit"]} |
| computed on | {record["processor"]}, {record["precision"]} |
| SHA-256 of the weights | {record["files"][WEIGHTS]} |

PSNR (dB) and SSIM per volume, mean ± standard deviation over people; the 95% interval is over people, for this network.

| test set | people | PSNR | 95% interval | SSIM |
|---|---|---|---|---|
{chr(10).join(_rows(folder.volumes))}

{_worse_than_none(study, run, folder.volumes)}

{LIMITS[data.domain]}

Weights under the MIT licence, as the code. To load: `safetensors.torch.load_file`, then `load_state_dict` on the network
that `kdmri_lib.models.base.build_model` makes of these options; a file that needs neither: `python -m kdmri_lib export`.
"""


def _shown(study: Study, cell: Cell, seed: int | None = None) -> dict[str, Run]:
    methods = study.methods(cell, study.profile.seeds[0] if seed is None else seed)
    return {method: methods[method] for method in SHOWN if method in methods}


def write_models(study: Study, cells: Sequence[Cell] = ()) -> list[Path]:
    """Write weights and cards of these cells, or of all, from finished runs, over what other profiles wrote of them;
    `StudyError` where a run isn't finished, but of a study in pieces."""
    written = []
    for cell in cells or study.cells:
        for method, run in _shown(study, cell).items():
            folder = RunFolder(study, run)
            if (state := folder.state()) != "finished":
                if study.profile.in_pieces and state == "missing":
                    continue
                raise StudyError(f"{folder.path}: {state}; its weights can't be given away")
            weights, text = model_files(study, cell, method)
            write_bytes(weights, (folder.path / WEIGHTS).read_bytes())
            write_text(text, card(study, cell, method))
            written += [weights, text]
    return written


class CommittedRun(RunFolder):
    """A run whose weights are committed, where it wasn't trained: its record is the evidence's."""

    def __init__(self, study: Study, run: Run, weights: Path):
        super().__init__(study, run)
        self._weights = weights

    @property
    def weights(self) -> Path:
        """The committed file."""
        return self._weights

    @cached_property
    def record(self) -> dict:
        """run.json, as the evidence has it."""
        return record_of(self.study, self.run)

    @property
    def inputs(self) -> dict:
        """What the result was made from, by its record."""
        return self.record["inputs"]

    def state(self) -> str:
        """ "finished", or that the file isn't as the evidence records."""
        whole = sha256_file(self.weights) == self.record["files"].get(WEIGHTS)
        return "finished" if whole else f"{self.weights} isn't what the evidence records"


def network_of(study: Study, cell: Cell, method: str, seed: int) -> RunFolder:
    """A run of a cell with its network: the run folder where it was trained, else the committed weights of the same run.

    `StudyError` for a method that the study hasn't.
    """
    runs = study.methods(cell, seed)
    if method not in runs:
        raise StudyError(f"no method '{method}'; known: {', '.join(runs)}")
    folder, (weights, _) = RunFolder(study, runs[method]), model_files(study, cell, method)
    if folder.state() == "missing" and weights.exists() and named_run(weights) == folder.run.id:
        return CommittedRun(study, folder.run, weights)
    return folder


def preferred(validation: Mapping[str, float]) -> str:
    """Of networks by name, each with its PSNR (dB) on the validation subjects, the student that is best there."""
    return max((name for name in validation if name != "teacher"), key=validation.get)


def best_student(study: Study, cell: Cell, seed: int) -> str:
    """Of a cell's students that were trained here, the one that is best on the validation subjects, by its name."""
    folders = {m: RunFolder(study, run) for m, run in _shown(study, cell, seed).items() if m != "teacher"}
    found = {method: folder.validation for method, folder in folders.items() if folder.state() == "finished"}
    if not found:
        raise StudyError(
            f"{cell.label}: no student of seed {seed} was trained here in profile {study.name}; without --profile the "
            "committed one is taken"
        )
    return preferred(found)


def wrong_models(study: Study, evidence: Study) -> list[str]:
    """Which committed weights and cards of a profile's cells aren't as its evidence says; those of other profiles aside."""
    wrong = []
    for cell in study.cells:
        for method, run in _shown(study, cell).items():
            weights, text = model_files(study, cell, method)
            said = text.read_text(encoding="utf-8") if text.exists() else ""
            if run.id not in said or f"| {run.seed}, {study.name} |" not in said:  # two profiles may share a run
                continue
            if not weights.exists() or sha256_file(weights) != RunFolder(evidence, run).record["files"][WEIGHTS]:
                wrong.append(f"{weights}: not the weights that the evidence records, or not there")
            if said != card(evidence, cell, method):
                wrong.append(f"{text}: isn't as from the evidence")
    return wrong
