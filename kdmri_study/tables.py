"""From metrics per volume to tables: means and standard deviations, comparisons, and Markdown that people read."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.declarations import Network
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import METRICS, evaluate, measure, reconstruct
from kdmri_lib.masks import mirrored, unmirrored_share
from kdmri_lib.models.base import multiply_accumulates, parameter_count
from kdmri_lib.operators import Undersampling
from kdmri_lib.statistics import Comparison, compare, holm
from kdmri_lib.storage import PROJECT, atomic_write, sha256_file, write_text
from kdmri_lib.training import validate_network
from kdmri_study.build import declared_operator, plain_network
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study

PUBLISHED = {name: PROJECT / "data" / f"published_{name}.csv" for name in ("table1", "super_resolution", "times")}
# What Table 1's significance is about: who is compared with whom.
QUESTIONS = [
    ("distilled", "student"),
    ("distilled", "student_steps"),
    ("distilled", "student_compute"),
    ("teacher", "student"),
    ("teacher", "distilled"),
]
SET = ["dataset", "acceleration", "set", "kind"]  # what one test set of one setting is told by


def joined_metrics(
    setting,
    folders: Mapping[int, Mapping[str, RunFolder]],
    baselines: Mapping[str, nn.Module | None],
    volumes,
    operator,
) -> dict[str, pd.DataFrame]:
    """Join the metrics of runs and of untrained baselines: "volumes" and "slices", a row per method, seed and subject.

    Parameters
    ----------
    setting : has a `dataset` and a `degradation`, such as a recipe.
    folders : finished runs by seed and method.
    baselines : by method, None for zero-filling; measured here on test `volumes`, undersampled by `operator`.
    """
    parts: dict[str, list[pd.DataFrame]] = {"volumes": [], "slices": []}
    for method, model in baselines.items():
        for kind, table in zip(parts, evaluate(model, operator, volumes), strict=True):
            parts[kind].append(table.assign(method=method, seed=-1, run=""))
    for seed, methods in folders.items():
        for method, folder in methods.items():
            for kind, table in (("volumes", folder.volumes), ("slices", folder.slices)):
                parts[kind].append(table.assign(method=method, seed=seed, run=folder.run.id))
    where = {"dataset": setting.dataset.name, "acceleration": setting.degradation.acceleration}
    return {kind: pd.concat(tables, ignore_index=True).assign(**where) for kind, tables in parts.items()}


def over_seeds(metrics: pd.DataFrame, unit: list[str]) -> pd.DataFrame:
    """Mean over seeds of each method and subject (and slice): the unit that is averaged and tested is not the seed.

    NaN where a seed's training failed: the mean of the others would be of fewer seeds than the table says.
    """
    return metrics.groupby([*SET, "method", *unit], as_index=False)[list(METRICS)].mean(skipna=False)


def summary(metrics: pd.DataFrame, aggregation: str, methods: Iterable[str] = METHODS) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) over volumes or slices of each of `methods`, in their order.

    The standard deviation is NaN for a set of one.
    """
    unit = ["subject"] if aggregation == "volume" else ["subject", "slice"]
    groups = over_seeds(metrics, unit).groupby([*SET, "method"])[list(METRICS)]
    deviation = groups.std(skipna=False).add_suffix("_sd")
    table = groups.mean(skipna=False).join(deviation).join(groups.size().rename("n")).reset_index()
    seeds = metrics[metrics.seed >= 0].seed.nunique()
    table = table.assign(aggregation=aggregation, seeds=seeds)
    order = {method: place for place, method in enumerate(methods)}
    table = table[table.method.isin(order)]
    return table.sort_values([*SET, "method"], key=lambda c: c.map(order) if c.name == "method" else c)


def significance(volumes: pd.DataFrame, questions: Sequence[tuple[str, str]] = QUESTIONS) -> pd.DataFrame:
    """Every question (a against b) on each set of at least five volumes: PSNR and SSIM, Holm-corrected over all rows."""
    rows = []
    for key, group in over_seeds(volumes, ["subject"]).groupby(SET):
        wide = group.pivot(index="subject", columns="method")
        if len(wide) < 5:
            continue
        for metric in ("psnr", "ssim"):
            for a, b in questions:
                result = compare(wide[metric][a].to_numpy(), wide[metric][b].to_numpy())
                rows.append({**dict(zip(SET, key, strict=True)), "metric": metric, "a": a, "b": b, **result._asdict()})
    table = pd.DataFrame(rows, columns=[*SET, "metric", "a", "b", *Comparison._fields])
    return table.assign(p_holm=holm(table.p.tolist()))


def published_table1() -> pd.DataFrame:
    """The paper's Table 1: dataset, acceleration, method, psnr, psnr_sd, ssim, ssim_sd as printed."""
    return pd.read_csv(PUBLISHED["table1"])


def _value(mean: float, sd: float, digits: int) -> str:
    if np.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + ("" if np.isnan(sd) else f" ± {sd:.{digits}f}")


def table1_markdown(table: pd.DataFrame, stamp: str) -> str:
    """Table 1 for reading: one block per data set and test set, a row per method, PSNR and SSIM per volume at each factor.

    The paper's published numbers stand beside ours; they are from other images.
    """
    published = published_table1().set_index(["dataset", "acceleration", "method"])
    lines = [f"*{stamp}. PSNR in dB and SSIM per volume, mean ± standard deviation over volumes.*", ""]
    volumes = table[table.aggregation == "volume"]
    for (dataset, kind, name), block in volumes.groupby(["dataset", "kind", "set"], sort=False):
        factors = sorted(block.acceleration.unique())
        some = block.iloc[0]
        plural = "s" if some.n > 1 else ""
        lines.append(f"**{dataset}, set “{name}”: {kind}, {some.n} volume{plural}, {some.seeds} seed(s)**\n")
        heads = [f"{f:g}x {column}" for f in factors for column in ("PSNR", "SSIM", "paper PSNR", "paper SSIM")]
        lines += ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for method in [m for m in METHODS if m in set(block.method)]:
            cells = []
            for factor in factors:
                row = block[(block.method == method) & (block.acceleration == factor)]
                ours = (
                    [_value(row.psnr.item(), row.psnr_sd.item(), 2), _value(row.ssim.item(), row.ssim_sd.item(), 4)]
                    if len(row)
                    else ["–", "–"]
                )
                key = (dataset, factor, method)
                theirs = published.loc[key] if key in published.index else None
                cells += ours + (["–", "–"] if theirs is None else [f"{theirs.psnr:.2f}", f"{theirs.ssim:.4f}"])
            lines.append(f"| {METHODS[method]} | " + " | ".join(cells) + " |")
        lines.append("")
    lines.append(
        "The paper's numbers are published ones, from ACDC, MRBrainS and knee volumes: other images than ours."
    )
    return "\n".join(lines) + "\n"


def significance_markdown(table: pd.DataFrame, labels: Mapping[str, str] = METHODS) -> str:
    """The comparisons for reading: difference, 95% bootstrap interval, p after Holm, effect size; `labels` of methods."""
    if table.empty:
        return "*Too few test volumes for a test.*\n"
    lines = [
        "| cell | metric | comparison | difference [95% interval] | p (Wilcoxon, Holm) | rank-biserial | volumes |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table.itertuples():
        digits = 3 if row.metric == "psnr" else 5
        values = f"{row.difference:+.{digits}f} [{row.low:+.{digits}f}, {row.high:+.{digits}f}] | {row.p_holm:.3g} "
        values += f"| {row.effect:+.2f} | {row.pairs}"
        cell = f"{row.dataset} {row.acceleration:g}x, {row.set}"
        lines.append(
            f"| {cell} | {METRICS[row.metric]} | {labels.get(row.a, row.a)} − {labels.get(row.b, row.b)} "
            f"| {'– | – | – | –' if np.isnan(row.difference) else values} |"
        )
    return "\n".join(lines) + "\n"


def verdict(volumes: pd.DataFrame) -> str:
    """In words, for each cell and set: does ZF < student < distilled < teacher hold, and where do the controls stand."""
    lines = []
    for (dataset, factor, name, kind), group in over_seeds(volumes, ["subject"]).groupby(SET):
        mean = group.groupby("method").psnr.mean(skipna=False)
        chain = ["zero_filled", "student", "distilled", "teacher"]
        if missing := [METHODS[m].lower() for m in [*chain, "student_steps", "student_compute"] if np.isnan(mean[m])]:
            lines.append(
                f"- **{dataset} {factor:g}x, {name} ({kind}).** Nothing can be said, since a training failed: "
                f"{', '.join(missing)}."
            )
            continue
        holds = all(mean[a] < mean[b] for a, b in itertools.pairwise(chain))
        gap = mean["teacher"] - mean["student"]
        gain = mean["distilled"] - mean["student"]
        steps, compute = (mean["distilled"] - mean[m] for m in ("student_steps", "student_compute"))
        share = f", {gain / gap:.0%} of the teacher's lead of {gap:.2f} dB" if gap > 0 else ""
        lines.append(
            f"- **{dataset} {factor:g}x, {name} ({kind}).** The paper's order ZF < student < distilled < teacher "
            f"{'holds' if holds else 'does not hold'} in PSNR: "
            + " / ".join(f"{mean[m]:.2f}" for m in chain)
            + f" dB. Distillation brings {gain:+.2f} dB{share}. "
            f"Against the student trained alone for as many steps it stands {steps:+.2f} dB, "
            f"for as much compute {compute:+.2f} dB."
        )
    return "\n".join(lines) + "\n"


def symmetry(image: np.ndarray, masks: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """What the symmetry of a real volume's k-space is worth, for each mask (label: (H, W)): a row per mask.

    Columns: share of lines without their mirror line, acceleration with the symmetry used, and the PSNR (dB) of
    zero-filling a volume (slices, H, W) without and with it.
    """
    rows = []
    for label, mask in masks.items():
        completed = mask | mirrored(mask)
        plain, full = (measure(image, reconstruct(None, Undersampling(m), image)) for m in (mask, completed))
        rows.append(
            {
                "mask": label,
                "lines without their mirror": unmirrored_share(mask),
                "acceleration with symmetry": 1 / completed.mean(),
                "zero-filled PSNR / dB": plain["psnr"],
                "with symmetry": full["psnr"],
            }
        )
    return pd.DataFrame(rows)


def networks_table(networks: Mapping[str, Network]) -> pd.DataFrame:
    """What declared networks cost and what can be asked of them, a row per network."""
    made = {name: plain_network(declaration) for name, declaration in networks.items()}
    rows = {
        name: {
            "parameters": parameter_count(network),
            "multiply-accumulates per pixel": multiply_accumulates(network),
            "features": f"{network.feature_names[0]} … {network.feature_names[-1]}",
            "attention taken at": ", ".join(network.centre_features),
        }
        for name, network in made.items()
    }
    return pd.DataFrame(rows).T.rename_axis("network")


def runs_table(folders: Mapping[int, Mapping[str, RunFolder]]) -> pd.DataFrame:
    """Where and how long finished runs (by seed and method) trained, a row per run."""
    recorded = ("device", "precision", "seconds")
    rows = [
        {"method": method, "seed": seed, "run": f.run.id, **{key: f.record[key] for key in recorded}}
        for seed, methods in folders.items()
        for method, f in methods.items()
    ]
    return pd.DataFrame(rows)


def precision_table(
    prepared: Path, folders: Mapping[int, Mapping[str, RunFolder]], single: Mapping[int, Mapping[str, RunFolder]]
) -> tuple[pd.DataFrame, list[str]]:
    """What bfloat16 costs on the validation set, PSNR in dB; and the names of the runs that say so.

    The same weights in both precisions, for each method of the first seed; and, where there are runs in `single` precision
    by seed, the student trained in each.
    """
    validation = list(read_prepared(prepared, "validation"))
    rows, used = [], [f.run.id for methods in [*folders.values(), *single.values()] for f in methods.values()]
    for method, folder in next(iter(folders.values())).items():
        network, operator = folder.network(), declared_operator(folder.run)
        values = {f"{p} / dB": validate_network(network, operator, validation, p) for p in ("float32", "bfloat16")}
        rows.append({"what": f"{METHODS[method]}: same weights", **values})
    for seed, methods in single.items():
        both = [*methods.values(), folders[seed]["student"]]
        values = {f"{f.record['precision']} / dB": f.curve.validation_psnr.max(skipna=False) for f in both}
        rows.append({"what": f"Student: trained in each, seed {seed}", **values})
    table = pd.DataFrame(rows, columns=["what", "float32 / dB", "bfloat16 / dB"])
    return table.assign(**{"difference / dB": table["bfloat16 / dB"] - table["float32 / dB"]}), used


def failures(study: Study) -> dict[str, str]:
    """What the study's runs that failed are called, and how their numbers went wrong."""
    folders = {study.labels[run.id]: RunFolder(study, run) for run in study.runs.values()}
    return {label: folder.failed for label, folder in folders.items() if folder.state() == "failed"}


def failures_markdown(found: dict[str, str]) -> str:
    """The trainings that failed, for reading; where their numbers would stand, tables have a hole (–)."""
    if not found:
        return "None failed.\n"
    lines = ["These trainings failed; where their numbers would stand, there is a hole (–).\n"]
    return "\n".join([*lines, *(f"- **{label}**: {reason}" for label, reason in found.items())]) + "\n"


def write_table(table: pd.DataFrame, path: Path, runs: list[str], markdown: str = "") -> None:
    """Write a CSV, beside it its checksum and the run folders it was made from, and a Markdown rendering if given.

    What a table is made of is always the same files: a notebook declares whether it has a rendering.
    """
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False)
    lines = [f"# sha256 {sha256_file(path)}", *sorted({r for r in runs if r})]
    write_text(path.with_suffix(".runs.txt"), "\n".join(lines) + "\n")
    if markdown:
        write_text(path.with_suffix(".md"), markdown)


def read_metrics(study: Study, kind: str) -> pd.DataFrame:
    """The "volumes" or "slices" of all cells, as notebook 03 left them; `StudyError` names what is missing or damaged."""
    paths = [study.table(f"{kind}_{cell.tag}") for cell in study.cells]
    for path in paths:
        if not path.exists():
            raise StudyError(f"{path}: no such file; notebook 03 writes it")
        about = path.with_suffix(".runs.txt")
        if not about.exists() or f"# sha256 {sha256_file(path)}" not in about.read_text(encoding="utf-8").splitlines():
            raise StudyError(
                f"{path}: not as notebook 03 wrote it (its checksum is wrong); delete it to have it made again"
            )
    return pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)


def experiment_markdown(table: pd.DataFrame, stamp: str, labels: Mapping[str, str] = METHODS) -> str:
    """An experiment's `summary` for reading: a block per set, a row per method, all metrics per volume."""
    lines = [f"*{stamp}. Per volume, mean ± standard deviation over volumes.*", ""]
    for (name, kind), block in table.groupby(["set", "kind"], sort=False):
        some = block.iloc[0]
        lines.append(f"**set “{name}”: {kind}, {some.n} volume{'s' if some.n > 1 else ''}, {some.seeds} seed(s)**\n")
        lines += ["| | " + " | ".join(METRICS.values()) + " |", "|---" * (len(METRICS) + 1) + "|"]
        for row in block.to_dict("records"):
            values = [_value(row[m], row[f"{m}_sd"], 2 if m == "psnr" else 4) for m in METRICS]
            lines.append(f"| {labels.get(row['method'], row['method'])} | " + " | ".join(values) + " |")
        lines.append("")
    return "\n".join(lines) + "\n"
