"""Tables for reading, as Markdown: Table 1, an experiment's rows, comparisons and what they say, failed trainings."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from kdmri_lib.evaluation import METRICS
from kdmri_lib.statistics import FEW, MARGIN
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study
from kdmri_study.tables import SET, published_table1

NONE = "–"
COSTS = ("steps", "compute", "with teacher", "s")
COST_NOTE = (
    "Costs: optimiser steps; multiply-accumulates (10¹²) of the student's training with the teacher given, as it was "
    "computed, and with its teacher's training; measured seconds."
)
TEST_NOTE = (
    "Difference: mean over seeds and people, PSNR in dB; its 95% interval resamples seeds, then people (one seed: people "
    "alone, on these networks). Verdict: better or worse than 0, equivalent within "
    f"±{MARGIN:g} dB, or undecided. p over seeds: t-test of the seeds' differences, from {FEW} seeds on; p over people: "
    f"Wilcoxon's signed-rank test on these networks, from {FEW} people on; both by Holm over the questions of one cell and "
    "set. Effect: rank-biserial over people. SSIM stands beside, not tested."
)


def value(mean: float, sd: float, digits: int) -> str:
    """A mean and its standard deviation; a dash for what isn't there."""
    if np.isnan(mean):
        return NONE
    return f"{mean:.{digits}f}" + ("" if np.isnan(sd) else f" ± {sd:.{digits}f}")


def _costs(row) -> list[str]:
    """The cells of `COSTS`; dashes where nothing was trained."""
    if pd.isna(row["steps"]):
        return [NONE] * len(COSTS)
    macs = [f"{row[key] / 1e12:.3g}" for key in ("macs_given", "macs_whole")]
    return [f"{row['steps']:,.0f}", *macs, f"{row['seconds']:,.0f}"]


def _people(block: pd.DataFrame, aggregation: str) -> str:
    some = block.iloc[0]
    unit = ("person", "people") if aggregation == "volume" else ("slice", "slices")
    return f"{some.n} {unit[int(some.n > 1)]}, {some.seeds} seed{'s' if some.seeds > 1 else ''}"


def _table1_block(block: pd.DataFrame, dataset: str, published: bool) -> list[str]:
    """One data set and test set: a row per method, PSNR and SSIM at each factor, the paper's beside where asked for."""
    factors, theirs = (
        sorted(block.acceleration.unique()),
        published_table1().set_index(["dataset", "acceleration", "method"]),
    )
    columns = ("PSNR", "SSIM", *(("paper PSNR", "paper SSIM") if published else ()))
    heads = [f"{f:g}x {column}" for f in factors for column in columns] + list(COSTS)
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for method in [m for m in METHODS if m in set(block.method)]:
        rows = block[block.method == method].set_index("acceleration")
        cells = []
        for factor in factors:
            row = rows.loc[factor]
            cells += [value(row.psnr, row.psnr_sd, 2), value(row.ssim, row.ssim_sd, 4)]
            key = (dataset, factor, method)
            if published:
                known = key in theirs.index
                cells += [f"{theirs.loc[key].psnr:.2f}", f"{theirs.loc[key].ssim:.4f}"] if known else [NONE, NONE]
        cost = rows.iloc[0].copy()
        cost["seconds"] = rows.seconds.mean()
        lines.append(f"| {METHODS[method]} | " + " | ".join([*cells, *_costs(cost)]) + " |")
    return lines


def table1_markdown(table: pd.DataFrame, stamp: str) -> str:
    """Table 1 for reading: a block per data set and test set, the paper's published numbers beside ours.

    The paper's knee numbers are means over slices, each on its own maximum; ours stand so too, and per volume beside.
    """
    lines = [
        f"*{stamp}. PSNR in dB and SSIM, mean ± standard deviation over people (a person's volumes averaged), or over "
        f"slices where the block says so. {COST_NOTE}*",
        "",
    ]
    for (dataset, kind, name), block in table.groupby(["dataset", "kind", "set"], sort=False):
        as_published = "slice" if dataset == "knee" else "volume"
        for aggregation in dict.fromkeys((as_published, "volume")):
            part = block[block.aggregation == aggregation]
            how = "per slice, each on its own maximum" if aggregation == "slice" else "per volume"
            lines.append(f"**{dataset}, set “{name}”: {kind}, {how}; {_people(part, aggregation)}**\n")
            lines += [*_table1_block(part, dataset, aggregation == as_published), ""]
    lines.append(
        "The paper's numbers are published ones, from ACDC, MRBrainS and knee volumes: other images than ours."
    )
    return "\n".join(lines) + "\n"


def experiment_markdown(table: pd.DataFrame, stamp: str, labels: Mapping[str, str] = METHODS) -> str:
    """An experiment's rows for reading: a block per set, a row per method, all metrics per volume, costs, and the same
    network alone at the row's cost."""
    lines = [f"*{stamp}. Per volume, mean ± standard deviation over people. {COST_NOTE}*", ""]
    for (name, kind), block in table.groupby(["set", "kind"], sort=False):
        psnr = block.set_index("method").psnr
        heads = [*METRICS.values(), *COSTS, "alone at this cost / dB", "lead / dB"]
        lines.append(f"**set “{name}”: {kind}; {_people(block, 'volume')}**\n")
        lines += ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for row in block.to_dict("records"):
            cells = [value(row[m], row[f"{m}_sd"], 2 if m == "psnr" else 4) for m in METRICS] + _costs(row)
            alone = psnr[row["control"]] if row["control"] else np.nan
            lead = row["psnr"] - alone
            cells += [value(alone, np.nan, 2), NONE if np.isnan(lead) else f"{lead:+.2f}"]
            lines.append(f"| {labels.get(row['method'], row['method'])} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines) + "\n"


def _p(p: float, number: int, unit: str) -> str:
    return f"too few {unit}" if number < FEW else f"{p:.3g}"


def significance_markdown(table: pd.DataFrame, labels: Mapping[str, str] = METHODS) -> str:
    """The comparisons for reading; `labels` of methods."""
    if table.empty:
        return "*No set of several people: nothing can be compared.*\n"
    heads = ["cell, set", "comparison", "difference [95% interval]", "each seed", "verdict"]
    heads += ["p over seeds", "p over people", "effect", "SSIM difference [95% interval]", "seeds × people"]
    lines = [f"*{TEST_NOTE}*", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    other = table[table.metric == "ssim"].set_index([*SET, "a", "b"])
    for row in table[table.metric == "psnr"].itertuples():
        ssim = other.loc[tuple(getattr(row, key) for key in (*SET, "a", "b"))]
        if np.isnan(row.difference):
            values = [NONE] * 7
        else:
            values = [
                f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]",
                " ".join(f"{float(v):+.2f}" for v in row.by_seed.split()),
                row.verdict,
                _p(row.p_seeds_holm, row.seeds, "seeds"),
                _p(row.p_people_holm, row.people, "people"),
                f"{row.effect:+.2f}",
                f"{ssim.difference:+.4f} [{ssim.low:+.4f}, {ssim.high:+.4f}]",
            ]
        cell = f"{row.dataset} {row.acceleration:g}x, {row.set}"
        names = f"{labels.get(row.a, row.a)} − {labels.get(row.b, row.b)}"
        lines.append("| " + " | ".join([cell, names, *values, f"{row.seeds} × {row.people}"]) + " |")
    return "\n".join(lines) + "\n"


def order_in_words(table: pd.DataFrame, tests: pd.DataFrame) -> str:
    """For each cell and set, of `summary` per volume and of `significance`: does ZF < student < distilled < teacher hold,
    and where do the controls stand."""
    lines = []
    for (dataset, factor, name, kind), block in table[table.aggregation == "volume"].groupby(SET, sort=False):
        mean = block.set_index("method").psnr
        where = f"- **{dataset} {factor:g}x, {name} ({kind}).** "
        chain = ["zero_filled", "student", "distilled", "teacher"]
        controls = {"student_steps": "as many steps", "student_compute": "as much compute, the teacher given"}
        controls["student_whole"] = "as much compute as it and its teacher"
        controls = {method: words for method, words in controls.items() if method in mean.index}
        if missing := [METHODS[m].lower() for m in [*chain, *controls] if np.isnan(mean[m])]:
            lines.append(f"{where}Nothing can be said, since a training failed: {', '.join(missing)}.")
            continue
        holds = all(mean[a] < mean[b] for a, b in itertools.pairwise(chain))
        gap, gain = mean["teacher"] - mean["student"], mean["distilled"] - mean["student"]
        share = f", {gain / gap:.0%} of the teacher's lead of {gap:.2f} dB" if gap > 0 else ""
        psnr = tests[(tests.metric == "psnr") & (tests[SET] == [dataset, factor, name, kind]).all(axis=1)]
        said = psnr[psnr.a == "distilled"].set_index("b")
        stands = [
            f"{mean['distilled'] - mean[control]:+.2f} dB for {words}"
            + (f" ({said.verdict[control]})" if control in said.index else "")
            for control, words in controls.items()
        ]
        lines.append(
            f"{where}The paper's order ZF < student < distilled < teacher {'holds' if holds else 'does not hold'} in PSNR: "
            + " / ".join(f"{mean[m]:.2f}" for m in chain)
            + f" dB. Distillation brings {gain:+.2f} dB{share}. Against the student trained alone it stands "
            + ", ".join(stands)
            + "."
        )
    return "\n".join(lines) + "\n"


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
