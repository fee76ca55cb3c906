"""The README's numbers: blocks of it that are written from committed tables, and held to them by a test.

A block stands between ``<!-- numbers: NAME -->`` and ``<!-- end -->``; `python -m kdmri_lib readme` writes all anew.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT, write_text
from kdmri_study.guide import map_of_notebooks
from kdmri_study.rendering import NONE, share_of_lead, value
from kdmri_study.study import Study
from kdmri_study.tables import PUBLISHED, published_table1

README = PROJECT / "README.md"
BLOCK = re.compile(r"(<!-- numbers: ([\w.-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


class Block(NamedTuple):
    """A block: the profile whose tables it is written from, and how."""

    profile: str
    write: Callable[[Study], str]


BLOCKS: dict[str, Block] = {}


def block(name: str, profile: str) -> Callable:
    """Decorator for the function that writes the block of that name from a profile's study."""

    def add(write: Callable[[Study], str]) -> Callable[[Study], str]:
        BLOCKS[name] = Block(profile, write)
        return write

    return add


def _read(study: Study, name: str) -> pd.DataFrame:
    path = study.table(name)
    if not path.exists():
        raise StudyError(f"{path}: no such file, and the README's numbers are from it")
    return pd.read_csv(path, keep_default_na=True)


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _difference(row) -> str:
    return f"{row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}]".replace("-", "−")


def _cells(study: Study, name: str = "test") -> pd.DataFrame:
    """The cells of Table 1 on a test set, a row each, as far as they are there: PSNR (dB) per volume of each method, the
    share of the teacher's lead over the student that distillation won back, the paper's, and how the distilled student
    stands against the student alone at its cost (`difference`, `low`, `high`, `verdict`, `seeds`, `people`)."""
    table = _read(study, "table1").query("aggregation == 'volume' and set == @name")
    wide = table.pivot(index=["dataset", "acceleration"], columns="method", values="psnr")
    theirs = published_table1().pivot(index=["dataset", "acceleration"], columns="method", values="psnr")
    tests = _read(study, "significance").query("set == @name and metric == 'psnr' and a == 'distilled'")
    tests = tests[tests.b == "student_compute"].set_index(["dataset", "acceleration"])
    said = tests[["difference", "low", "high", "verdict", "seeds", "people"]]
    found = wide.assign(share=share_of_lead(wide), paper=share_of_lead(theirs)).join(said)
    order = [(cell.dataset, cell.acceleration) for cell in study.cells]
    return found.reindex([key for key in order if key in found.index])


@block("answer", "quick")
def answer(study: Study) -> str:
    """The study's answer in a paragraph: in how many cells, by how much, on whom, for how many seeds."""
    cells, people = _cells(study), _cells(study, "people")
    chain = ["zero_filled", "student", "distilled", "teacher"]
    in_order = (cells[chain].diff(axis=1).iloc[:, 1:] > 0).all(axis=1).sum()
    ahead, sure = (cells.difference > 0).sum(), (cells.low > 0).sum()
    between = f"{cells.difference.min():+.2f} to {cells.difference.max():+.2f} dB".replace("-", "−")
    on_people = "; ".join(f"{factor:g}x {_difference(row)}" for (_, factor), row in people.iterrows())
    seeds = cells.seeds.max()
    over = f"{seeds} seeds and people" if seeds > 1 else "people, for these networks,"
    caution = "" if seeds > 1 else " This is one seed; profile table1 asks six whether it holds."
    return (
        "Distilled as the paper does, and against the same student trained alone for as much compute (the teacher given): "
        f"ahead in **{ahead} of {len(cells)} cells** of Table 1 on generated images ({between}; in {sure} its 95% interval "
        f"over {over} is above 0). On {people.people.max():.0f} real people, brain, dB [95% interval]: {on_people}. The "
        f"paper's order, zero-filled < student < distilled < teacher, comes out in {in_order} of {len(cells)} cells."
        f"{caution}\n"
    )


@block("table1", "quick")
def table1(study: Study) -> str:
    """The cells of Table 1 on generated images, a row each, and the paper's share beside ours."""
    cells = _cells(study)
    heads = ["", "zero-filled", "student", "alone at the distilled one's cost", "distilled", "teacher"]
    heads += ["share of the teacher's lead", "the paper's", "distilled against alone at its cost [95%]"]
    rows = []
    for (dataset, factor), row in cells.iterrows():
        methods = ("zero_filled", "student", "student_compute", "distilled", "teacher")
        shares = [f"{row[name]:.0%}".replace("-", "−") for name in ("share", "paper")]
        rows.append([f"{dataset} {factor:g}x", *(f"{row[m]:.2f}" for m in methods), *shares, _difference(row)])
    return _markdown(heads, rows)


ASKED = {
    ("distilled", "student_compute"): "as published, against alone at its cost",
    ("he_distilled", "he_compute"): "the same, well initialised",
    ("best", "best_compute"): "the best recipe, against alone at its cost",
    ("best_teacher", "best_compute"): "the best recipe's teacher, against the same",
    ("best", "teacher"): "the best recipe's student, against the teacher as published",
}


@block("over_seeds", "table1")
def over_seeds(study: Study) -> str:
    """What Table 1 says of each question over the cells that are there, on their test sets."""
    if not study.table("significance").exists():
        return "None of it is committed yet.\n"
    tests = _read(study, "significance").query("set == 'test' and metric == 'psnr'")
    heads = ["", "cells", "ahead", "95% interval above 0", "below 0", "difference / dB", "seeds"]
    rows = []
    for (a, b), words in ASKED.items():
        cells = tests[(tests.a == a) & (tests.b == b) & tests.difference.notna()]
        if cells.empty:
            continue
        ahead, above, below = ((found > 0).sum() for found in (cells.difference, cells.low, -cells.high))
        ends, seeds = (cells.difference.min(), cells.difference.max()), sorted({cells.seeds.min(), cells.seeds.max()})
        between = " to ".join(f"{end:+.2f}".replace("-", "−") for end in ends)
        counts = [f"{count} of {len(cells)}" for count in (ahead, above, below)]
        rows.append([words, str(len(cells)), *counts, between, " to ".join(map(str, seeds))])
    said = _markdown(heads, rows) + "\nThe interval of a cell with one seed is over people alone."
    leads = tests[tests.b == "best_compute"].pivot(index=["dataset", "acceleration"], columns="a", values="difference")
    if {"best", "best_teacher"} <= set(leads):
        share = (leads.best / leads.best_teacher)[leads.best_teacher > 0].dropna()
        said += (
            f" The best recipe's student wins back {share.min():.0%} to {share.max():.0%} of its teacher's lead over the "
            f"student alone at its cost; a third or more in {(share >= 1 / 3).sum()} of {len(leads)} cells."
        ).replace("-", "−")
    return f"{said}\n"


@block("domains", "domains")
def domains(study: Study) -> str:
    """Magnitude images beside complex ones: PSNR of each method, and what a teacher is worth, of the test sets."""
    table = _read(study, "domains").query("set == 'test'")
    heads = ["", "seeds", "zero-filled", "student", "distilled", "teacher", "share of the teacher's lead"]
    heads += ["distilled against alone at its cost [95%]", "best recipe against alone at its cost [95%]"]
    rows = []
    for (dataset, factor), cell in table.groupby(["dataset", "acceleration"], sort=False):
        cell = cell.set_index("method")
        for arm in ("magnitude", "complex"):
            psnr = cell[f"psnr_{arm}"]
            of = cell.rename(columns={f"lead_{arm}": "difference", f"low_{arm}": "low", f"high_{arm}": "high"})
            means = [value(psnr[m], np.nan, 2) for m in ("zero_filled", "student", "distilled", "teacher")]
            leads = [_difference(of.loc[m]) if m in of.index else NONE for m in ("distilled", "best")]
            share = f"{share_of_lead(psnr):.0%}".replace("-", "−")
            rows.append([f"{dataset} {factor:g}x, {arm}", str(cell.seeds.max()), *means, share, *leads])
    return _markdown(heads, rows)


@block("phases", "domains")
def phases(study: Study) -> str:
    """What a phase costs the distilled student, and what complex images cost in time, as `benchmark` measured it."""
    table = pd.read_csv(PROJECT / "results" / "phase_costs.csv").query("method == 'distilled'")
    mean = table.groupby(["dataset", "acceleration", "network", "phase"], sort=False).psnr.mean()
    given = list(dict.fromkeys(table[table.network == "complex"].phase))
    rows = []
    for dataset, factor in dict.fromkeys(zip(table.dataset, table.acceleration, strict=True)):
        of = mean[dataset, factor]
        costs = [f"{of['complex', name] - of['complex', '0']:+.2f}".replace("-", "−") for name in given[1:]]
        rows.append([f"{dataset} {factor:g}x", f"{of['magnitude', '0']:.2f}", f"{of['complex', '0']:.2f}", *costs])
    times = pd.read_csv(PROJECT / "results" / "domain_times.csv")
    some, most = times.iloc[0], times.groupby("what").ratio.max()
    said = (
        f"A complex student's training step takes at most {most['training step']:.2f} times the magnitude student's, a "
        f"slice at most {most['inference']:.2f} times ({some.processor}, threads: {some.threads}, float32)."
    )
    return _markdown(["", "magnitude network", "complex, phase 0", *given[1:]], rows) + f"\n{said}\n"


def _comparisons(study: Study, part: str, name: str = "test") -> tuple[pd.DataFrame, pd.DataFrame]:
    table = _read(study, part).query("set == @name")
    tests = _read(study, f"{part}_significance").query("metric == 'psnr' and set == @name")
    return table.set_index("method"), tests


@block("losses", "evening")
def losses(study: Study) -> str:
    """Each feature loss: PSNR, against the student alone at its cost, and against attention transfer."""
    return _against(study, "feature_losses_comparison", "attention_transfer", "against attention transfer")


@block("asking", "evening")
def asking(study: Study) -> str:
    """The teacher asked once, or at each step."""
    return _against(study, "asking_asking", "once", "against asking once")


def _said(tests: pd.DataFrame, a: str, b: str) -> tuple[str, str, str]:
    """What the comparison of a with b says: difference, each seed's, verdict; dashes where there is none."""
    found = tests[(tests.a == a) & (tests.b == b)]
    if found.empty:
        return NONE, NONE, NONE
    row = found.iloc[0]
    each = " ".join(f"{float(v):+.2f}" for v in row.by_seed.split()).replace("-", "−")
    return _difference(row), each, row.verdict


def _against(study: Study, part: str, reference: str, words: str) -> str:
    table, tests = _comparisons(study, part)
    heads = ["the student, trained", "PSNR", "compute", "alone at this cost", "lead [95% interval]", "each seed", ""]
    heads += [f"{words} [95% interval]", ""]
    rows = []
    for method, row in table[~table.index.isin(table.control.dropna())].iterrows():
        cost = NONE if np.isnan(row.steps) else f"{row.macs_given / 1e12:.2f}"
        alone = value(table.psnr.get(row.control, np.nan), np.nan, 2)
        difference, _, verdict = _said(tests, method, reference)
        cells = [row.label, value(row.psnr, np.nan, 2), cost, alone, *_said(tests, method, row.control)]
        rows.append([*cells, difference, verdict])
    some, steps = tests.iloc[0], table.steps["student"] if "student" in table.index else table.steps.min() / 2
    about = f"{some.seeds} seeds, {some.people} {some.kind}s, {steps:,.0f} steps a stage; compute in 10¹² "
    return f"{about}multiply-accumulates.\n\n" + _markdown(heads, rows)


@block("speed", "quick")
def speed(study: Study) -> str:
    """Time of a slice of the paper's size."""
    cell = study.cells[0].tag
    table = _read(study, f"deployment_times_paper_size_{cell}").set_index(["implementation", "network"])
    heads = ["", "teacher", "student", "times faster than the plain teacher", "than the plain student"]
    rows = []
    for name in dict.fromkeys(table.index.get_level_values(0)):
        student = table.loc[(name, "student")]
        times = [f"{table.loc[(name, who)].ms:.0f} ms" for who in ("teacher", "student")]
        rows.append([name, *times, f"{student['of plain teacher']:.1f}", f"{student['of plain student']:.1f}"])
    theirs = pd.read_csv(PUBLISHED["times"]).query("device == 'CPU'").set_index("network").ms
    some, paper = table.iloc[0], " and ".join(f"{theirs[who]:g} ms" for who in ("teacher", "student"))
    return f"{some.processor}; {some.threads} threads. (The paper's, on its CPU: {paper}.)\n\n" + _markdown(heads, rows)


@block("precision", "quick")
def precision(study: Study) -> str:
    """What faster ways to compute lose."""
    cell = study.cells[0].tag
    lost = _read(study, f"deployment_quality_{cell}").set_index("computed by")["psnr lost"]
    rows = [[name, f"{loss:.3f}"] for name, loss in lost.items()]
    return _markdown(["computed by", "PSNR lost / dB"], rows)


@block("commands", "quick")
def commands(study: Study) -> str:
    """What the commands cost in a fresh clone, of those that were measured (`benchmark commands`)."""
    table = pd.read_csv(PROJECT / "results" / "command_costs.csv")
    said = [] if "./run_all.sh" in set(table.command) else [f"Profile {study.name}: {study.profile.cost}.\n"]
    if table.empty:
        return said[0]
    rows = [
        [f"`{row.command}`", f"{row.minutes:.0f} min", f"{row.memory:.1f} GB", f"{row.disk:.1f} GB"]
        for row in table.rename(columns={"memory / GB": "memory", "disk / GB": "disk"}).itertuples()
    ]
    where = ", ".join(sorted({*table.processor}))
    note = f"In a fresh clone, their environment included: {where}."
    return "\n".join([_markdown(["command", "time", "memory at most", "disk"], rows), f"{note}\n", *said])


@block("notebooks", "quick")
def notebooks(study: Study) -> str:
    """The map of the notebooks."""
    return map_of_notebooks("notebooks/")


def block_text(name: str) -> str:
    """What the block of that name says, from the committed tables of its profile."""
    return BLOCKS[name].write(Study(BLOCKS[name].profile))


def written(text: str, profiles: set[str] | None = None) -> Iterator[tuple[str, str, str]]:
    """(name, as it stands, as it should) of each block of a README; of these profiles alone where they are given.

    Raises
    ------
    StudyError
        When a block isn't known.
    """
    for match in BLOCK.finditer(text):
        name = match[2]
        if name not in BLOCKS:
            raise StudyError(f"{README}: no numbers '{name}'; known: {', '.join(BLOCKS)}")
        if profiles is None or BLOCKS[name].profile in profiles:
            yield name, match[3], f"\n{block_text(name)}\n"


def wrong_blocks(study: Study) -> list[str]:
    """Which of the README's blocks of a profile aren't as from the committed tables."""
    if study.source not in {block.profile for block in BLOCKS.values()}:
        return []
    found = written(README.read_text(encoding="utf-8"), {study.source})
    return [f"{README}: numbers '{name}' aren't as from the tables" for name, is_, should in found if is_ != should]


def write_readme(path: Path = README) -> list[str]:
    """Write all blocks anew; the names of those that changed."""
    text = path.read_text(encoding="utf-8")
    blocks = list(written(text))
    new = {name: should for name, _, should in blocks}
    write_text(path, BLOCK.sub(lambda match: match[1] + new[match[2]] + match[4], text))
    return [name for name, is_, should in blocks if is_ != should]
