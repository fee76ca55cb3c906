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
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.guide import map_of_notebooks
from kdmri_study.rendering import NONE, value
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


@block("answer", "quick")
def answer(study: Study) -> str:
    """The study's answer in a paragraph, with its intervals."""
    tests = _of_first_cell(study, _read(study, "significance"))
    first = tests.query("metric == 'psnr' and set == 'people' and a == 'distilled'").set_index("b")
    against = {
        "student": "the student trained alone in the usual way",
        "student_compute": "one trained alone for as much compute, the teacher given",
        "student_whole": "one trained alone for as much compute as it *and its teacher* took",
    }
    said = [f"**{_difference(first.loc[b])}** from {words}" for b, words in against.items() if b in first.index]
    some = first.iloc[0]
    over = f"{some.seeds} seeds and people" if some.seeds > 1 else "people, on these networks: of one seed"
    return (
        f"On {some.people} real people, {some.dataset} {some.acceleration:g}x, the distilled student's PSNR in dB differs "
        f"by {'; by '.join(said)} (95% intervals over {over}).\n"
    )


def _of_first_cell(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """A table's rows of the first cell of a profile, the one that the README shows."""
    cell = study.cells[0]
    return table[(table.dataset == cell.dataset) & (table.acceleration == cell.acceleration)]


SETS = {"test": "virtual subjects", "people": "people", "individual": "s1045, one slice", "template": "MNI152 template"}


@block("table1", "quick")
def table1(study: Study) -> str:
    """Table 1 of its first cell: a column per test set, and what each row cost."""
    table = _of_first_cell(study, _read(study, "table1"))
    table = table[table.aggregation == "volume"]
    theirs = published_table1().query("dataset == 'brain' and acceleration == 4").set_index("method")
    sizes = {name: table[table.set == name].n.max() for name in SETS}
    heads = ["", *(f"{sizes[name]} {words}" if sizes[name] > 1 else words for name, words in SETS.items())]
    heads += ["the paper, MRBrainS", "steps", "compute", "with teacher"]
    rows = []
    for method, label in ((m, words) for m, words in METHODS.items() if m in set(table.method)):
        of = table[table.method == method].set_index("set")
        if of.empty:
            continue
        cells = [f"{of.psnr[name]:.2f} / {of.ssim[name]:.3f}" for name in SETS]
        known = method in theirs.index
        cells.append(f"{theirs.psnr[method]:.2f} / {theirs.ssim[method]:.3f}" if known else NONE)
        some = of.iloc[0]
        costs = [f"{some.steps:,.0f}", f"{some.macs_given / 1e12:.1f}", f"{some.macs_whole / 1e12:.1f}"]
        rows.append([label, *cells, *([NONE] * 3 if np.isnan(some.steps) else costs)])
    return _markdown(heads, rows)


@block("table1-differences", "quick")
def table1_differences(study: Study) -> str:
    """How the distilled student stands against every other row, on the virtual subjects and on the people."""
    tests = _of_first_cell(study, _read(study, "significance")).query("metric == 'psnr' and a == 'distilled'")
    seeds = tests.seeds.max()
    heads = ["the distilled student against", *(f"{SETS[name]}" for name in ("test", "people"))]
    rows = []
    for other in dict.fromkeys(tests.b):
        found = tests[tests.b == other].set_index("set")
        rows.append([METHODS[other].lower(), *(_difference(found.loc[name]) for name in ("test", "people"))])
    over = "seeds and people" if seeds > 1 else "people, on these networks: of one seed nothing follows for others"
    return f"PSNR in dB, mean difference and its 95% interval over {over}.\n\n" + _markdown(heads, rows)


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
    if table.empty:
        return f"Profile {study.name}: {study.profile.cost}.\n"
    rows = [
        [f"`{row.command}`", f"{row.minutes:.0f} min", f"{row.memory:.1f} GB", f"{row.disk:.1f} GB"]
        for row in table.rename(columns={"memory / GB": "memory", "disk / GB": "disk"}).itertuples()
    ]
    where = ", ".join(sorted({*table.processor}))
    note = f"In a fresh clone, their environment included: {where}."
    return _markdown(["command", "time", "memory at most", "disk"], rows) + f"\n{note}\n"


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
