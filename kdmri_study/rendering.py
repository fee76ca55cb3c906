"""Tables for reading, as Markdown: Table 1, an experiment's rows, comparisons and what they say, failed trainings.

All of them follow from a table's CSV alone, so that the report can be built where nothing was trained.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdmri_lib.evaluation import METRICS
from kdmri_lib.statistics import FEW, MARGIN
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study
from kdmri_study.tables import CELL, SET, published_table1

NONE = "–"


class Column(NamedTuple):
    """How a column is shown: its heading with its unit, its decimals, and which way is better, if any is."""

    heading: str
    digits: int
    better: str = ""

    @property
    def head(self) -> str:
        """The heading, with an arrow where one way is better."""
        return f"{self.heading} {self.better}".strip()


# Columns whose names in a CSV are short; every other is shown by its name.
COLUMNS = {
    "psnr": Column(METRICS["psnr"], 2, "↑"),
    "ssim": Column(METRICS["ssim"], 4, "↑"),
    "nmse": Column(METRICS["nmse"], 4, "↓"),
    "hfe": Column(METRICS["hfe"], 4, "↓"),
    "psnr lost": Column("PSNR lost / dB", 3, "↓"),
    "ms": Column("median / ms", 1, "↓"),
    "q25": Column("lower quartile / ms", 1),
    "q75": Column("upper quartile / ms", 1),
    "slices/s": Column("slices / s", 1, "↑"),
    "GFLOP/s": Column("GFLOP / s", 0, "↑"),
    "of matrix product": Column("of a matrix product's rate", 2, "↑"),
    "of plain teacher": Column("times as fast as the plain teacher", 1, "↑"),
    "of plain student": Column("as the plain student", 1, "↑"),
    "time / s": Column("time / s", 0),
    "difference / dB": Column("difference / dB", 3),
    "with symmetry": Column("with symmetry / dB", 2),
    "lines without their mirror": Column("share of lines without their mirror", 2),
}
VALIDATION_NOTE = "Validation: PSNR of the checkpoint that was kept, on the validation subjects."
COSTS = ("steps", "compute / 10¹²", "with teacher / 10¹²", "time / s")
COST_NOTE = (
    "Costs: optimiser steps; multiply-accumulates of the student's training with the teacher given, as it was computed, "
    "and with its teacher's training; measured time."
)
BEST_NOTE = "↑ ↓: which way is better; the best of each column is bold."
TEST_NOTE = (
    "Difference: mean over seeds and people, PSNR in dB; its 95% interval resamples seeds, then people (one seed: people "
    "alone, on these networks). Verdict: better or worse than 0, equivalent within "
    f"±{MARGIN:g} dB, or undecided. p over seeds: t-test of the seeds' differences, from {FEW} seeds on; p over people: "
    f"Wilcoxon's signed-rank test on these networks, from {FEW} people on; both by Holm over the questions of one cell and "
    "set. Effect: rank-biserial over people. SSIM stands beside, not tested."
)
CONTROL_WORDS = {
    "student_steps": "for as many steps",
    "student_compute": "for as much compute, the teacher given",
    "student_whole": "for as much compute as it and its teacher",
}


def number(value: float, digits: int, sign: str = "") -> str:
    """A number with so many decimals, a true minus, and no sign at 0; a dash for NaN. `sign` is "+" where both stand."""
    if math.isnan(value):
        return NONE
    rounded = round(float(value), digits) + 0.0
    return f"{rounded:{sign if rounded else ''},.{digits}f}".replace("-", "−")


def percent(share: float) -> str:
    """A share in per cent, with a true minus; a dash for NaN."""
    return NONE if math.isnan(share) else f"{number(100 * share, 0)}%"


def span(values: Iterable[float], words: Callable[[float], str] = str) -> str:
    """From where to where values go, in words; once where that is the same, a dash where all are NaN or there is none."""
    known = [value for value in values if not math.isnan(value)]
    return " to ".join(dict.fromkeys(words(end) for end in (min(known), max(known)))) if known else NONE


def value(mean: float, sd: float, digits: int) -> str:
    """A mean and its standard deviation; a dash for what isn't there."""
    return number(mean, digits) + ("" if math.isnan(mean) or math.isnan(sd) else f" ± {number(sd, digits)}")


def interval(row, digits: int, difference: str = "difference") -> str:
    """A difference and its interval; a dash where there is none."""
    if math.isnan(getattr(row, difference)):
        return NONE
    low, high = (number(getattr(row, end), digits, "+") for end in ("low", "high"))
    return f"{number(getattr(row, difference), digits, '+')} [{low}, {high}]"


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[int] = (0,)) -> str:
    """A Markdown table: the columns `texts` to the left, numbers to the right."""
    marks = [":--" if place in texts else "--:" for place in range(len(heads))]
    lines = [heads, marks, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _columns(table: pd.DataFrame, names: Sequence[str]) -> list[list[str]]:
    """The cells of metrics, column by column: mean ± standard deviation where there is one, the best ones bold."""
    found = []
    for name in names:
        column, means = COLUMNS[name], table[name].round(COLUMNS[name].digits)
        best = means.max() if column.better == "↑" else means.min()
        deviations = table.get(f"{name}_sd", pd.Series(np.nan, table.index))
        cells = [value(*pair, column.digits) for pair in zip(table[name], deviations, strict=True)]
        bold = column.better and len(means) > 1
        found.append([f"**{c}**" if bold and m == best else c for c, m in zip(cells, means, strict=True)])
    return found


def _costs(row: Mapping) -> list[str]:
    """The cells of `COSTS`; dashes where nothing was trained."""
    if pd.isna(row["steps"]):
        return [NONE] * len(COSTS)
    macs = [f"{row[key] / 1e12:,.3g}" for key in ("macs_given", "macs_whole")]
    return [number(row["steps"], 0), *macs, number(row["seconds"], 0)]


def capital(words: str) -> str:
    """The same words as a sentence begins."""
    return words[:1].upper() + words[1:]


def units(count: int, kind: str) -> str:
    """How many of a test set there are, by what they are: 9 people, 12 phantoms."""
    one, several = ("person", "people") if kind == "real MR" else (kind, f"{kind}s")
    return f"{count} {one if count == 1 else several}"


def _counted(block: pd.DataFrame, aggregation: str = "volume") -> str:
    some = block.iloc[0]
    counted = units(some.n, some.kind) if aggregation == "volume" else units(some.n, "slice")
    seeds = block.groupby("acceleration").seeds.max()
    if seeds.nunique() == 1:
        return f"{counted}, {units(some.seeds, 'seed')}"
    each = [f"{units(count, 'seed')} at {factor:g}x" for factor, count in seeds.items()]
    return f"{counted}; {', '.join(each)}"


def _table1_block(block: pd.DataFrame, dataset: str, published: bool) -> str:
    """One data set and test set: a row per method, PSNR and SSIM at each factor, the paper's beside where asked for."""
    factors = sorted(block.acceleration.unique())
    theirs = published_table1().set_index(["dataset", "acceleration", "method"])
    methods = [method for method in METHODS if method in set(block.method)]
    heads, columns = [""], [[METHODS[method] for method in methods]]
    for factor in factors:
        rows = block[block.acceleration == factor].set_index("method").loc[methods]
        heads += [f"{factor:g}x {COLUMNS[name].head}" for name in ("psnr", "ssim")]
        columns += _columns(rows, ("psnr", "ssim"))
        if published:
            keys = [(dataset, factor, method) for method in methods]
            known = [theirs.loc[key] if key in theirs.index else None for key in keys]
            heads += [f"{factor:g}x paper {METRICS[name]}" for name in ("psnr", "ssim")]
            columns += [
                [NONE if row is None else number(row[name], COLUMNS[name].digits) for row in known]
                for name in ("psnr", "ssim")
            ]
    return grid(heads, list(zip(*columns, strict=True)))


def _table1_costs(block: pd.DataFrame) -> str:
    """What the rows of a data set cost; time is a mean over its factors."""
    means = block[block.macs_given.notna()].groupby("method", sort=False)[
        ["steps", "macs_given", "macs_whole", "seconds"]
    ]
    rows = means.mean().to_dict("index")
    return grid(["", *COSTS], [[METHODS[method], *_costs(rows[method])] for method in METHODS if method in rows])


def table1_markdown(table: pd.DataFrame, stamp: str) -> str:
    """Table 1 for reading: a block per data set and test set, the paper's published numbers beside ours; then the costs.

    The paper's knee numbers are means over slices, each on its own maximum; ours stand so too, and per volume beside.
    """
    lines = [
        f"*{capital(stamp)}. Mean ± standard deviation over people (a person's volumes averaged), or over slices where the "
        f"block says so. {BEST_NOTE} The paper's numbers are published ones, from ACDC, MRBrainS and knee volumes: other "
        "images than ours.*\n"
    ]
    for (dataset, kind, name), block in table.groupby(["dataset", "kind", "set"], sort=False):
        as_published = "slice" if dataset == "knee" else "volume"
        for aggregation in dict.fromkeys((as_published, "volume")):
            part = block[block.aggregation == aggregation]
            how = "per slice, each on its own maximum" if aggregation == "slice" else "per volume"
            lines.append(f"**{dataset}, set “{name}”: {kind}, {how}; {_counted(part, aggregation)}**\n")
            lines.append(_table1_block(part, dataset, aggregation == as_published))
    for dataset, block in table.groupby("dataset", sort=False):
        lines += [f"**{dataset}: what each row cost**\n", _table1_costs(block)]
    return "\n".join([*lines, f"*{COST_NOTE}*\n"])


def experiment_markdown(table: pd.DataFrame, stamp: str, labels: Mapping[str, str] = METHODS) -> str:
    """An experiment's rows for reading: a block per set, a row per method, all metrics per volume, costs, and the same
    network alone at the row's cost."""
    notes = f"{BEST_NOTE} {VALIDATION_NOTE} {COST_NOTE}"
    lines = [f"*{capital(stamp)}. Per volume, mean ± standard deviation over people. {notes}*\n"]
    # Beside the PSNR what it is worth, so that it shows where a wide table is cut.
    first, *others = (COLUMNS[name].head for name in METRICS)
    heads = ["", first, "alone at this cost / dB", "lead / dB", *others, "validation / dB", *COSTS]
    for (name, kind), block in table.groupby(["set", "kind"], sort=False):
        psnr, rows = block.set_index("method").psnr, []
        for metrics, row in zip(
            zip(*_columns(block, tuple(METRICS)), strict=True), block.to_dict("records"), strict=True
        ):
            alone = psnr.get(row["control"], math.nan)
            beside = [number(alone, 2), number(row["psnr"] - alone, 2, "+")]
            cells = [metrics[0], *beside, *metrics[1:], number(row["validation"], 2), *_costs(row)]
            rows.append([labels.get(row["method"], row["method"]), *cells])
        lines += [f"**set “{name}”: {kind}; {_counted(block)}**\n", grid(heads, rows)]
    return "\n".join(lines)


def people_markdown(table: pd.DataFrame, stamp: str) -> str:
    """Each real person by each method (`tables.each_person`), a block per cell."""
    lines = [f"*{capital(stamp)}. PSNR in dB per person, a mean over seeds.*\n"]
    for (dataset, factor), block in table.groupby(CELL, sort=False):
        shown = block.set_index("person").drop(columns=CELL).T
        rows = [[METHODS[method], *(number(psnr, 2) for psnr in row)] for method, row in shown.iterrows()]
        lines += [f"**{dataset} {factor:g}x**\n", grid(["", *shown.columns], rows)]
    return "\n".join(lines)


def domains_markdown(table: pd.DataFrame, stamp: str) -> str:
    """Magnitude images beside the same people's complex ones (`tables.beside_each_other`), a block per cell and set."""
    lines = [
        f"*{capital(stamp)}. Per volume, mean ± standard deviation over people, of the magnitude in both; same people, "
        "masks, seeds and steps. Lead: over the same network trained alone at the row's cost, with its interval.*\n"
    ]
    heads = [""] + [
        f"{what}, {arm}" for what in ("PSNR / dB ↑", "SSIM ↑", "lead / dB") for arm in ("magnitude", "complex")
    ]
    for (dataset, factor, name, kind), block in table.groupby(SET, sort=False):
        rows = []
        for row in block.to_dict("records"):
            cells = [METHODS[row["method"]]]
            for metric in ("psnr", "ssim"):
                digits = COLUMNS[metric].digits
                cells += [
                    value(row[f"{metric}_{a}"], row[f"{metric}_sd_{a}"], digits) for a in ("magnitude", "complex")
                ]
            for arm in ("magnitude", "complex"):
                cells.append(_lead(row, arm))
            rows.append(cells)
        lines += [f"**{dataset} {factor:g}x, set “{name}”: {kind}; {_counted(block)}**\n", grid(heads, rows)]
    return "\n".join([*_arms_in_words(table), *lines])


def _lead(row: Mapping, arm: str) -> str:
    """What a row of an arm leads its control by, and its interval."""
    return interval(SimpleNamespace(**{end: row[f"{end}_{arm}"] for end in ("lead", "low", "high")}), 2, "lead")


def share(gain: pd.Series | float, lead: pd.Series | float) -> pd.Series | float:
    """The share that a gain is of a lead (dB); NaN where the lead is within `MARGIN`: a share of nothing says nothing."""
    return gain / np.where(lead > MARGIN, lead, np.nan)


def share_of_lead(psnr: pd.DataFrame | pd.Series) -> pd.Series | float:
    """The share of the teacher's lead over the student that distillation won back, by the PSNR of each."""
    return share(psnr.distilled - psnr.student, psnr.teacher - psnr.student)


def _arms_in_words(table: pd.DataFrame) -> list[str]:
    """What distillation wins back in both arms, a line per cell, of test sets; none where a row is missing."""
    said = []
    for (dataset, factor), block in table[table.set == "test"].groupby(CELL, sort=False):
        rows = block.set_index("method")
        if not {"teacher", "student", "distilled"} <= set(rows.index):
            continue
        leads, shares, stands = [], [], {"distilled": [], "best": []}
        for arm in ("magnitude", "complex"):
            psnr = rows[f"psnr_{arm}"]
            lead = psnr.teacher - psnr.student
            leads.append(f"{number(lead, 2, '+')} dB")
            shares.append(percent(share_of_lead(psnr)))
            for name, found in stands.items():
                if name in rows.index:
                    found.append(_lead(rows.loc[name], arm))
        best = f"; the best recipe's {' and '.join(stands['best'])}" if stands["best"] else ""
        said.append(
            f"- **{dataset} {factor:g}x, magnitudes and complex images.** The teacher leads the student by "
            f"{' and '.join(leads)}; distillation wins back {' and '.join(shares)} of it. Against the same network alone "
            f"at its cost the distilled student stands {' and '.join(stands['distilled'])} dB{best}.\n"
        )
    return said


def by_seed(row) -> list[float]:
    """The difference (dB) of each seed, of a row of comparisons (`kdmri_study.tables.significance`)."""
    return [float(difference) for difference in str(row.by_seed).split()]


def each_seed(row) -> str:
    """The same, for reading."""
    return " ".join(number(difference, 2, "+") for difference in by_seed(row))


def _p(p: float, count: int, unit: str) -> str:
    return f"too few {unit}" if count < FEW else f"{p:.3g}"


def significance_markdown(table: pd.DataFrame, labels: Mapping[str, str] = METHODS) -> str:
    """The comparisons for reading, a block per cell and set; `labels` of methods."""
    if table.empty:
        return "*No set of several people: nothing can be compared.*\n"
    heads = ["comparison", "difference / dB [95% interval]", "each seed / dB", "verdict", "p over seeds"]
    heads += ["p over people", "effect", "SSIM difference [95% interval]"]
    lines = [f"*{TEST_NOTE}*\n"]
    for (dataset, factor, name, kind), block in table.groupby(SET, sort=False):
        psnr, ssim = (block[block.metric == metric] for metric in ("psnr", "ssim"))
        some, rows = block.iloc[0], []
        for row, beside in zip(psnr.itertuples(), ssim.itertuples(), strict=True):
            values = [NONE] * (len(heads) - 1)
            if not math.isnan(row.difference):
                values = [
                    interval(row, 3),
                    each_seed(row),
                    row.verdict,
                    _p(row.p_seeds_holm, row.seeds, "seeds"),
                    _p(row.p_people_holm, row.people, "people"),
                    number(row.effect, 2, "+"),
                    interval(beside, 4),
                ]
            rows.append([f"{labels.get(row.a, row.a)} − {labels.get(row.b, row.b)}", *values])
        counted = f"{units(some.seeds, 'seed')}, {units(some.people, kind)}"
        lines += [f"**{dataset} {factor:g}x, set “{name}”: {kind}; {counted}**\n", grid(heads, rows, (0, 3))]
    return "\n".join(lines)


def plain_markdown(table: pd.DataFrame) -> str:
    """Any other table for reading: numbers of a column to the same decimals, and what all rows share said once above."""
    shared = {name: table[name].iloc[0] for name in table if len(table) > 1 and table[name].nunique(dropna=False) == 1}
    kept = [name for name in table if name not in shared]
    numbers = [name for name in kept if pd.api.types.is_numeric_dtype(table[name]) and table[name].dtype != bool]
    columns = [
        _columns(table, [name])[0] if name in COLUMNS else [_cell(v, _decimals(table[name])) for v in table[name]]
        for name in kept
    ]
    heads = [COLUMNS[name].head if name in COLUMNS else name.replace("_", " ") for name in kept]
    said = ", ".join(f"{COLUMNS[n].heading if n in COLUMNS else n} {_cell(v, 4)}" for n, v in shared.items())
    rows = list(zip(*columns, strict=True))
    text = grid(heads, rows, [place for place, name in enumerate(kept) if name not in numbers])
    return (f"*In all rows: {said}.*\n\n" if said else "") + text


def _decimals(column: pd.Series) -> int:
    """Decimals that show four digits of a column's largest number; none of whole numbers."""
    if not pd.api.types.is_float_dtype(column) or (column.dropna() % 1 == 0).all():
        return 0
    return int(np.clip(3 - np.floor(np.log10(column.abs().max())), 0, 4))


def _cell(found, digits: int) -> str:
    if isinstance(found, bool | np.bool_):
        return "yes" if found else "no"
    if isinstance(found, int | float | np.number):
        whole = float(found).is_integer()
        return number(float(found), 0 if whole and digits == 4 else digits)
    return NONE if pd.isna(found) else str(found)


def order_in_words(table: pd.DataFrame, tests: pd.DataFrame) -> str:
    """For each cell and set, of `summary` per volume and of `significance`: does ZF < student < distilled < teacher hold,
    and where do the controls stand."""
    lines = []
    for (dataset, factor, name, kind), block in table[table.aggregation == "volume"].groupby(SET, sort=False):
        mean = block.set_index("method").psnr
        where = f"- **{dataset} {factor:g}x, {name} ({kind}).** "
        chain = ["zero_filled", "student", "distilled", "teacher"]
        controls = {name: words for name, words in CONTROL_WORDS.items() if name in mean}
        if missing := [METHODS[m].lower() for m in [*chain, *controls] if np.isnan(mean[m])]:
            lines.append(f"{where}Nothing can be said, since a training failed: {', '.join(missing)}.")
            continue
        holds = all(mean[a] < mean[b] for a, b in itertools.pairwise(chain))
        gap, gain = mean["teacher"] - mean["student"], mean["distilled"] - mean["student"]
        won = share(gain, gap)
        part = "" if np.isnan(won) else f", {percent(won)} of the teacher's lead of {number(gap, 2)} dB"
        psnr = tests[(tests.metric == "psnr") & (tests[SET] == [dataset, factor, name, kind]).all(axis=1)]
        said = psnr[psnr.a == "distilled"].set_index("b")
        stands = [
            f"{number(mean['distilled'] - mean[control], 2, '+')} dB {words}"
            + (f" ({said.verdict[control]})" if control in said.index else "")
            for control, words in controls.items()
        ]
        lines.append(
            f"{where}The paper's order ZF < student < distilled < teacher {'holds' if holds else 'does not hold'} in PSNR: "
            + " / ".join(number(mean[m], 2) for m in chain)
            + f" dB. Distillation brings {number(gain, 2, '+')} dB{part}. Against the student trained alone it stands "
            + ", ".join(stands)
            + "."
        )
    return "\n".join(lines) + "\n"


def evidence_in_words(table: pd.DataFrame) -> str:
    """What all of the evidence took, what is left and the command that goes on, of `derived.evidence_table`."""
    there, left = table[table.trainings > 0], table[table.macs_left > 0]
    machines = ", ".join(dict.fromkeys(m for those in there.machines for m in those.split("; ")))
    hours, macs, to_do = there.seconds.sum() / 3600, there.macs.sum(), left.macs_left.sum()
    words = f"{table.seeds.sum()} of {table.asked.sum()} pieces, each a cell or an experiment with one seed"
    if len(there):
        words += (
            f": {there.trainings.sum():,} trainings, {number(macs / 1e12, 0)}·10¹² multiply-accumulates, "
            f"{number(hours, 1)} hours as their times add up ({machines})"
        )
    if left.empty:
        return f"{words}."
    speed = f", at that speed {number(hours * to_do / macs, 0)} such hours" if len(there) else ""
    first = f"`{left.next.iloc[0]}` makes the first piece of them"
    return f"{words}. To come: {number(to_do / 1e12, 0)}·10¹² multiply-accumulates{speed}; {first}."


def evidence_markdown(table: pd.DataFrame, stamp: str) -> str:
    """`derived.evidence_table` for reading."""
    heads = ["", "seeds", "of", "trainings", "compute / 10¹²", "time / h", "to come / 10¹²"]
    rows = [
        [
            *(row.of.replace("_", " "), str(row.seeds), str(row.asked), f"{row.trainings:,}"),
            *(number(row.macs / 1e12, 0), number(row.seconds / 3600, 2), number(row.macs_left / 1e12, 0)),
        ]
        for row in table.itertuples()
    ]
    text = f"{capital(stamp)}: {evidence_in_words(table)}"
    return f"{text}\n\n{grid(heads, rows)}\n*A training that two rows share counts in the first.*\n"


def for_reading(table: pd.DataFrame, stamp: str, labels: Mapping[str, str] = METHODS) -> str:
    """A table for reading, as its columns say what it is; `labels` of methods, for comparisons."""
    if {"person", "zero_filled"} <= set(table):
        return people_markdown(table, stamp)
    if "psnr_complex" in table:
        return domains_markdown(table, stamp)
    if "macs_left" in table:
        return evidence_markdown(table, stamp)
    if "verdict" in table:
        return significance_markdown(table, labels)
    if "aggregation" in table:
        shown = experiment_markdown if "label" in table else table1_markdown
        return shown(table, stamp, *([dict(zip(table.method, table.label, strict=True))] if "label" in table else []))
    return plain_markdown(table)


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
