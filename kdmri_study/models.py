"""Networks to take away: committed weights with their cards (`results/models`), exported files, and what faster ways to
compute them lose.

Beside the weights of each (`brain_4x_best.safetensors`) lies what they are (`.json`: the run's declaration and its record),
and a card for people (`.md`).
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic.dataclasses import dataclass

from kdmri_lib.channels import as_channels, magnitude
from kdmri_lib.datasets import people
from kdmri_lib.datasets.framing import padded
from kdmri_lib.datasets.prepared import Slices, Volume, checked_volume
from kdmri_lib.declarations import Run, Undersampling
from kdmri_lib.declared import declared_mask, declared_operator, mask_file, run_network
from kdmri_lib.deployment.export import INNER, about_mask, quantise
from kdmri_lib.deployment.export import export as write_network
from kdmri_lib.deployment.model import FORMAT, Model
from kdmri_lib.devices import cpu_has_bfloat16
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import evaluate, psnr, reconstruct
from kdmri_lib.masks import FACTORS, line_axis
from kdmri_lib.models.base import Model as Network
from kdmri_lib.models.base import build_model, parameter_count
from kdmri_lib.operators import Measurement
from kdmri_lib.storage import PROJECT, read_json, sha256_file, write_bytes, write_json, write_text
from kdmri_lib.viewer.views import Person, Views
from kdmri_lib.viewer.views import Setting as Shown
from kdmri_study.evidence import Evidence
from kdmri_study.paper import METHODS
from kdmri_study.profile import Setting, Study
from kdmri_study.recipes import cost
from kdmri_study.runs import WEIGHTS, RunFolder, load_weights

FOLDER = PROJECT / "results" / "models"
KEPT = ("teacher", "student_compute", "distilled", "he_compute", "best")  # rows of Table 1 whose weights are kept
LIMITS = {
    None: """Trained on generated images (virtual subjects or phantoms) unless the data say otherwise, on magnitudes without
phase or coils, with one undersampling mask; on k-space from a scanner, on other masks, contrasts or sizes it isn't right.
Its figures compare methods; they say nothing of patients. Not for clinical use.""",
    "complex": """Trained on generated complex images (virtual subjects or phantoms) unless the data say otherwise, at a
simulated smooth phase, of one coil, with one undersampling mask; on other masks, contrasts or sizes it isn't right, and no
scanner's k-space has tested it. Its figures compare methods; they say nothing of patients. Not for clinical use.""",
}


@dataclass(frozen=True)
class Kept:
    """A trained network with what is known of it."""

    run: Run
    method: str  # which row of Table 1 it is
    profile: str  # and of which profile
    weights: Path  # the file that they lie in
    validation: float  # PSNR (dB) on the validation subjects
    record: dict  # what the run left: processor, precision, commit, checksums of weights and of the data it learnt from

    def network(self, acceleration: float | None = None) -> Network:
        """The network, in evaluation mode; with the mask of another acceleration where one is given."""
        run = self.run
        other = run.undersampling if acceleration in (None, run.undersampling.acceleration) else None
        mask = declared_mask(run.dataset, other or Undersampling(acceleration=acceleration))
        model = build_model(run.network.kind, mask, run.dataset.channels, **run.network.options)
        if sha256_file(self.weights) != self.record["weights"]:
            raise StudyError(f"{self.weights}: not the weights that are recorded beside it")
        model.load_state_dict(load_weights(self.weights))
        return model.eval()


def kept_run(folder: RunFolder, method: str = "") -> Kept:
    """A run that was trained here; `StudyError` where it isn't finished."""
    state = folder.state()
    if state != "finished":
        missing = folder.failed if state == "failed" else f"run {folder.run.id}: {state}"
        raise StudyError(f"no network: {missing}; ./run_all.sh --profile {folder.study.source} trains it")
    record = {k: folder.record[k] for k in ("processor", "precision", "commit")}
    record |= {"data": folder.record["inputs"]["data"], "weights": folder.record["files"][WEIGHTS]}
    validation = folder.outcome.validation(folder.run)
    return Kept(folder.run, method, folder.study.name, folder.weights, validation, record)


def committed(folder: Path = FOLDER) -> list[Kept]:
    """Every network in a folder of models; `StudyError` names a file whose `.json` isn't there."""
    return [Kept(weights=path, **read_json(path.with_suffix(".json"))) for path in sorted(folder.glob("*.safetensors"))]


def network(dataset: str, acceleration: float, method: str = "", folder: Path = FOLDER) -> Kept:
    """The committed network of a setting; without a method, of its students the best on the validation subjects.

    `StudyError` where there is none of that name.
    """
    known = committed(folder)
    of = {
        k.method: k for k in known if (k.run.dataset.name, k.run.undersampling.acceleration) == (dataset, acceleration)
    }
    if of and not method:
        method = max((name for name in of if name != "teacher"), key=lambda name: of[name].validation)
    if method in of:
        return of[method]
    what = f"no '{method}'" if of else "nothing"
    settings = dict.fromkeys(f"{k.run.dataset.name} {k.run.undersampling.tag}" for k in known)
    raise StudyError(
        f"{folder}: {what} of {dataset} {acceleration:g}x is committed; there is {', '.join(of or settings)} "
        "(--profile takes a network of a study that was run here)"
    )


def write_models(study: Study, settings: Sequence[Setting] = ()) -> Iterator[Path]:
    """Write weights, declarations and cards of settings' networks of the first seed, from finished runs."""
    for setting in settings or study.settings:
        rows = study.rows(setting, study.profile.seeds[0])
        for method in (m for m in KEPT if m in rows):
            run_folder = RunFolder(study, rows[method].run)
            kept = kept_run(run_folder, method)
            path = study.folder / "results" / "models" / f"{setting.tag}_{method}.safetensors"
            write_bytes(path, run_folder.weights.read_bytes())
            about = {"run": kept.run.model_dump(mode="json", exclude_none=True), "method": method}
            about |= {"profile": study.name, "validation": kept.validation, "record": kept.record}
            write_json(path.with_suffix(".json"), about)
            yield path
    write_cards(Evidence(study))


def write_cards(evidence: Evidence) -> None:
    """Write the card of every network of this profile in the folder of models, from evidence."""
    study = evidence.study
    for kept in (k for k in committed(study.folder / "results" / "models") if k.profile == study.name):
        write_text(kept.weights.with_suffix(".md"), card(evidence, kept))


def card(evidence: Evidence, kept: Kept) -> str:
    """The model card of a network: what it learnt from, how well it does on whom, beside zero-filled and the same network
    alone at its cost, what it isn't for."""
    run, data = kept.run, kept.run.dataset
    label = f"{data.name} {run.undersampling.tag}"
    mask, file, spent = declared_mask(data, run.undersampling), mask_file(data, run.undersampling), cost(run)
    lines = mask[:, 0] if line_axis(mask) == 0 else mask[0]
    source = f"as published ({file.name})" if file else "drawn by the published masks' rule"
    options = ", ".join(f"{key} {option}" for key, option in run.network.options.items())
    rows = evidence.study.rows(Setting(data.name, run.undersampling.acceleration), run.seed)
    outcomes = {"PSNR / dB": evidence.of(run)}
    outcomes["zero-filled / dB"] = evidence.of_untrained(data, run.undersampling, "zero_filled")
    if control := rows[kept.method].control:
        outcomes["alone / dB"] = evidence.of(rows[control].run)
    unit = ["set", "kind", "person"]
    found = {name: o.volumes.groupby(unit, sort=False)[["psnr", "ssim"]].mean() for name, o in outcomes.items()}
    people_of = pd.DataFrame({name: of.psnr for name, of in found.items()}).assign(SSIM=found["PSNR / dB"].ssim)
    sets = people_of.groupby(unit[:2], sort=False).mean().reset_index()
    sets.insert(2, "n", people_of.groupby(unit[:2], sort=False).size().to_numpy())
    each = people_of[people_of.index.isin([people.SPLIT], level="set")].droplevel(unit[:2]).reset_index()
    worse = people_of[people_of["PSNR / dB"] < people_of["zero-filled / dB"]].index
    forms = ["", "", "", *[".2f"] * len(found), ".4f"]
    tables = [sets.to_markdown(index=False, floatfmt=forms)]
    tables += [each.to_markdown(index=False, floatfmt=forms[2:])] * bool(len(each))
    return f"""# {METHODS[kept.method]}, {label}

`{kept.weights.name}`: {run.network.kind} ({options}), {parameter_count(run_network(run)):,} parameters, float32.

| | |
|---|---|
| trained on | {data.train} subjects of {data.slices_per_volume or "all"} slices, {data.source} |
| grid | {data.shape[0]}×{data.shape[1]} |
| checkpoint chosen on | {data.validation} subjects, PSNR {kept.validation:.2f} dB |
| mask | {lines.sum()} of {len(lines)} lines, {label}, {source} |
| objective | {" + ".join(term.loss for term in run.objective)} |
| steps | {spent.steps:,} |
| multiply-accumulates, without / with its teacher's training | {spent.given:.3g} / {spent.whole:.3g} |
| seed, profile | {run.seed}, {kept.profile} |
| run, commit | {run.id}, {kept.record["commit"]} |
| computed on | {kept.record["processor"]}, {kept.record["precision"]} |
| SHA-256 of the weights | {kept.record["weights"]} |

PSNR and SSIM per volume, means over people; *alone*: the same network without a teacher, at this one's compute.

{(chr(10) * 2).join(tables)}

Worse than zero-filled: {", ".join(f"{person} of {name}" for name, _, person in worse) or "nobody of these"}.
Never tried: other contrasts, anatomies, masks and scanners than these.

{LIMITS[data.domain]}

Weights under the MIT licence, as the code. To load: `safetensors.torch.load_file`, then `load_state_dict` on the network
that `kdmri_lib.models.base.build_model` makes of these options; a file that needs neither: `python -m kdmri_study export`.
"""


# Looking at real people.


def unseen(acceleration: float, trained_at: float) -> str:
    """What is to be known of networks that are used at another acceleration than their own."""
    return f"At {acceleration:g}x: networks that were trained at {trained_at:g}x, on a mask that they never saw."


def look_at_people(dataset: str = "brain", count: int = 16) -> Views:
    """The nine people, at most `count` slices of each, by the committed networks of a data set, at 4x, 5x and 8x.

    Where an acceleration has no networks of its own, those of the nearest are used on its mask, and its note says so.
    """
    found = [kept for kept in committed() if kept.run.dataset.name == dataset]
    if not found:
        raise StudyError(f"{FOLDER}: no weights for the data set {dataset}")
    shape, there = found[0].run.dataset.shape, sorted({kept.run.undersampling.acceleration for kept in found})
    shown = {}
    for factor in sorted({*FACTORS, *there}):
        nearest = min(there, key=lambda known, factor=factor: abs(known - factor))
        used = {kept.method: kept for kept in found if kept.run.undersampling.acceleration == nearest}
        models = {label: used[method].network(factor) for method, label in METHODS.items() if method in used}
        mask = declared_mask(found[0].run.dataset, Undersampling(acceleration=factor))
        shown[f"{factor:g}x"] = Shown(mask, models, "" if nearest == factor else unseen(factor, nearest))
    persons = {}
    for member in people.cohort():
        slices, attributes = people.make(member.how["file"], count)
        volume = checked_volume(member.subject, people.SPLIT, padded(slices, shape), attributes, shape)
        persons[member.subject] = Person(volume.image, f"{member.subject}: {attributes['origin'].partition(': ')[2]}")
    return Views(persons, shown)


# Exported files.


def export(study: Study, kept: Kept, path: Path) -> float:
    """Write a network at `path` (.onnx) and its weights beside it (.safetensors); the largest difference to PyTorch on
    training slices or, where these aren't prepared, on a person's.

    `StudyError` when the mask isn't made of lines, or ONNX Runtime doesn't agree with PyTorch; then no file is left.
    """
    run = kept.run
    about = {
        "format": FORMAT,
        "run": run.id,
        "dataset": run.dataset.name,
        "domain": run.dataset.domain or "magnitude",
        "acceleration": run.undersampling.acceleration,
        "mask": about_mask(declared_mask(run.dataset, run.undersampling), f"run {run.id}"),
        "normalisation": "divided by the maximum of the volume's zero-filled magnitude",
        "parameters": parameter_count(run_network(run)),
        "precision": "float32",
        "weights_sha256": sha256_file(kept.weights),
        "data_sha256": kept.record["data"],
        "commit": kept.record["commit"],
        "result": study.profile.result,
    }
    return write_network(
        kept.network(), declared_operator(run.dataset, run.undersampling), about, _shown(study, run), path
    )


def _shown(study: Study, run: Run) -> torch.Tensor:
    """Three slices (3, C, H, W) of at most 1 that a network is shown, as its training showed them where that is there."""
    prepared = study.prepared(run.dataset)
    if prepared.exists():
        slices = Slices(prepared, "train")
        return slices[[0, len(slices) // 2, len(slices) - 1]]
    image, _ = people.make(str(people.FOLDER / people.PEOPLE["colin27"].file), 3)
    image = np.stack([padded(one, run.dataset.shape) for one in image / image.max()])
    return as_channels(image if run.dataset.channels == 1 else (np.exp(0.5j) * image).astype(np.complex64))


def calibration_slices(study: Study, run: Run, count: int = 32) -> Iterator[Measurement]:
    """Undersampled training slices, spread over the split: (1, C, H, W) each; `StudyError` where they aren't prepared."""
    prepared = study.prepared(run.dataset)
    if not prepared.exists():
        raise StudyError(
            f"{prepared}: no such file; int8 is calibrated on training slices (python -m kdmri_study prepare --profile "
            f"{study.source} {run.dataset.name} makes them)"
        )
    slices, operator = Slices(prepared, "train"), declared_operator(run.dataset, run.undersampling)
    for n in np.linspace(0, len(slices) - 1, min(count, len(slices))).round().astype(int).tolist():
        yield operator(slices[[n]])


def as_network(model: Model) -> Callable:
    """An exported model as `evaluate` calls a network: tensors (B, C, H, W) in and out."""
    return lambda *measured: torch.from_numpy(model.run(*(v.contiguous().numpy() for v in measured)))


def quality_of_ways(study: Study, kept: Kept, path: Path, volumes: Sequence[Volume]) -> pd.DataFrame:
    """PSNR (dB) and SSIM per volume of each way to compute a network, and the PSNR that it loses to float32.

    `path` : its exported file, beside which int8 versions are written. bfloat16 is among the ways where the CPU has it,
    since emulated it takes some 70 times as long as float32.
    """
    ways = {"PyTorch, float32": kept.network()}
    if cpu_has_bfloat16():
        ways["PyTorch, bfloat16"] = torch.autocast("cpu", torch.bfloat16)(kept.network().forward)
    ways |= {
        "ONNX Runtime, float32": as_network(Model(path, "onnxruntime", "float32")),
        "OpenVINO, float32": as_network(Model(path, "openvino", "float32")),
        "OpenVINO, its own precision": as_network(Model(path)),
    }
    for number, inner in enumerate(("nothing", "first and last", INNER)):
        small = path.with_name(f"{path.stem}.int8-{number}.onnx")
        quantise(path, small, calibration_slices(study, kept.run), inner)
        ways[f"int8, kept in float32: {inner}"] = as_network(Model(small, "openvino", "float32"))
    operator = declared_operator(kept.run.dataset, kept.run.undersampling)
    means = {label: evaluate(way, operator, volumes)[0][["psnr", "ssim"]].mean() for label, way in ways.items()}
    table = pd.DataFrame(means).T.rename_axis("computed by").reset_index()
    return table.assign(**{"psnr lost": table.psnr[0] - table.psnr})


def scales(kept: Kept, path: Path, volumes: Sequence[Volume]) -> pd.DataFrame:
    """PSNR (dB) per volume, divided by the maximum that a scanner knows, its zero-filled image's, and by the true one."""
    model, trained = Model(path, "onnxruntime", "float32"), kept.network()
    operator, rows = declared_operator(kept.run.dataset, kept.run.undersampling), []
    for volume in volumes:
        own = model.reconstruct(np.fft.fft2(volume.image, norm="ortho"), batch=4)
        usual = magnitude(reconstruct(trained, operator, volume.image))
        pairs = {"by the zero-filled maximum": own, "by the true maximum": usual}
        rows.append({label: psnr(magnitude(volume.image), image, 1.0) for label, image in pairs.items()})
    return pd.DataFrame(rows)
