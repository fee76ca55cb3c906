"""The study's answer, of Table 1 and its comparisons, and of what was found beside it: in words, and as tables."""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import NamedTuple

import pandas as pd

from kdmri_lib.statistics import FEW, MARGIN, common_spread_intervals
from kdmri_lib.statistics import interval as interval_of
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.profile import Cell
from kdmri_study.rendering import NONE, by_seed, grid, interval, number, percent, share, span, units
from kdmri_study.study import Study
from kdmri_study.tables import CELL, SET

PAYS = {
    ("distilled", "student_compute"): "as the paper does",
    ("he_distilled", "he_compute"): "as the paper does, but well initialised",
    ("best", "best_compute"): "by the best recipe found here",
}
"""Which comparisons of Table 1 say whether distillation pays: each against the same network alone at its cost."""
COMPARED = {
    ("distilled", "student"): "distilled as the paper does, against alone for one stage: the paper's own comparison",
    ("distilled", "student_compute"): "distilled as the paper does, against alone for as much compute",
    ("he_distilled", "he_compute"): "the same, both well initialised",
    ("best", "best_compute"): "distilled by the best recipe found here, against alone for as much compute",
    ("he_student", "student"): "alone for one stage, well initialised, against as published",
    ("he_compute", "student_compute"): "alone for the distilled one's compute, well initialised, against as published",
    ("best", "teacher"): "distilled by the best recipe, against the teacher as published",
    (
        "he_compute",
        "teacher",
    ): "alone for the distilled one's compute, well initialised, against the teacher as published",
    ("best_compute", "teacher"): "alone for as much compute as the best recipe's, against the teacher as published",
    ("best", "he_teacher"): "distilled by the best recipe, against the teacher, well initialised",
}
"""What the answer compares, each a student with what it says, in its order."""
HEADS = [
    "the student",
    "mean / dB [95%]",
    "from, to / dB",
    "better, worse, each cell by itself",
    "better, worse, by common spread",
]


def tells_spread(found: pd.DataFrame) -> bool:
    """Whether differences of one comparison, a row per cell, are of enough seeds to tell the spread that cells share."""
    return bool((found.seeds - 1).sum() >= FEW)


def by_common_spread(found: pd.DataFrame) -> pd.DataFrame:
    """Differences of one comparison, a row per cell, with `low` and `high` by the spread over seeds that is taken to be the
    same in all cells (`kdmri_lib.statistics.common_spread_intervals`); as they are where too few seeds tell it."""
    if not tells_spread(found):
        return found
    ends = common_spread_intervals([by_seed(row) for row in found.itertuples()])
    low, high = zip(*ends, strict=True)
    return found.assign(low=low, high=high)


def decided(found: pd.DataFrame) -> tuple[int, int]:
    """In how many cells the interval lies above 0, and in how many below."""
    return int((found.low > 0).sum()), int((found.high < 0).sum())


def mean_over(cells: pd.Series) -> str:
    """The mean of a difference (dB) over cells, and its interval, as if each cell were drawn by itself; a dash for one."""
    if len(cells) < 2:
        return NONE
    low, high = interval_of(cells.to_numpy()[None])
    return interval(SimpleNamespace(difference=cells.mean(), low=low, high=high), 2)


def stands(found: pd.DataFrame) -> list[str]:
    """How differences (dB), a row per cell, stand: their mean, its interval over cells; from where to where they go; in how
    many the interval lies above and below 0, by the cell's own seeds and people, and by the spread over seeds of all
    cells."""
    ends = dict.fromkeys(number(end, 2, "+") for end in (found.difference.min(), found.difference.max()))
    own, common = (", ".join(map(str, decided(each))) for each in (found, by_common_spread(found)))
    return [
        mean_over(found.difference),
        ", ".join(ends),
        f"{own} of {len(found)}",
        f"{common} of {len(found)}" if tells_spread(found) else NONE,
    ]


def shares_of_lead(tests: pd.DataFrame) -> pd.Series:
    """The share of its teacher's lead over the student alone at its cost that the best recipe's student wins back, by cell;
    NaN where that teacher doesn't lead (`rendering.share`).

    `tests` : of one set, in PSNR (`kdmri_study.tables.significance`).
    """
    leads = tests[tests.b == "best_compute"].pivot(index=CELL, columns="a", values="difference")
    leads = leads.reindex(columns=["best", "best_teacher"])
    return share(leads.best, leads.best_teacher)


def _lost(people: pd.DataFrame) -> Iterator[str]:
    """For which real people a distilled student is further from the truth than no network, and how far."""
    for row in people.itertuples():
        for name, alone in PAYS:
            if name in people and getattr(row, name) < row.zero_filled:
                ours, control, none = (
                    number(value, 2) for value in (getattr(row, name), getattr(row, alone), row.zero_filled)
                )
                who = f"{METHODS[name].lower()} for {row.person} at {row.acceleration:g}x"
                yield f"{who}, {ours} dB (alone {control}, zero-filled {none})"


def _in_order(table: pd.DataFrame, name: str) -> str:
    """In how many cells the paper's order comes out on a test set, and of how many; empty where there is none."""
    shown = table[(table.aggregation == "volume") & (table.set == name)].pivot(
        index=CELL, columns="method", values="psnr"
    )
    chain = shown.reindex(columns=["zero_filled", "student", "distilled", "teacher"]).dropna()
    return f"{(chain.diff(axis=1).iloc[:, 1:] > 0).all(axis=1).sum()} of {len(chain)}" if len(chain) else ""


def answer_markdown(study: Study, table: pd.DataFrame, tests: pd.DataFrame, people: pd.DataFrame | None = None) -> str:
    """The study's answer: in how many cells each way to distil pays, by how much, on whom, for how many seeds.

    `table`, `tests`, `people` : Table 1, its comparisons, and each real person, if any (`derived.table1_tables`). Rows that
    a profile hasn't, and trainings that failed, are left out.
    """
    volumes = table[(table.aggregation == "volume") & (table.set == "test")]
    psnr = volumes.pivot(index=CELL, columns="method", values="psnr")
    asked = tests[(tests.metric == "psnr") & tests.difference.notna()]
    test = asked[asked.set == "test"].set_index(["a", "b"]).sort_index()
    real = (
        asked[asked.set == "people"].pivot(index=["a", "b"], columns=CELL, values="difference").reindex(list(COMPARED))
    )
    if test.empty:
        return "Nothing can be said: there is no cell of several people, or its trainings failed.\n"
    over = "over seeds and people" if test.seeds.max() > 1 else "over people, for these networks"
    over += ", of one seed over people, for its networks alone" if test.seeds.min() == 1 < test.seeds.max() else ""
    images = " and ".join(f"{kind}s" for kind in dict.fromkeys(volumes.kind))
    heads, rows = [*HEADS], []
    if real.size:
        heads.append(f"real people, {', '.join(f'{dataset} {factor:g}x' for dataset, factor in real)}")
    for pair, words in COMPARED.items():
        if pair in test.index:
            shown = [", ".join(number(lead, 2, "+") for lead in real.loc[pair])] if real.size else []
            rows.append([words, *stands(test.loc[[pair]]), *shown])
    lines = [
        f"PSNR on the test sets ({images}) of {len(psnr)} of {len(study.cells)} cells, {span(test.seeds)} of "
        f"{len(study.profile.seeds)} seeds; a teacher's training is not counted. Better or worse: a cell's 95% interval, "
        f"{over}, lies above or below 0; by common spread: of other trainings, whose spread is taken to be the same in all "
        "cells. The mean is over cells, and so is its interval, as if each cell were drawn by itself.\n",
        grid(heads, rows),
    ]
    if ("best", "best_compute") in test.index and (shares := shares_of_lead(test.reset_index()).dropna()).size:
        lines.append(
            f"Of its teacher's lead over the student alone at its cost the best recipe wins back {percent(shares.min())} "
            f"to {percent(shares.max())}, a third or more in {(shares >= 1 / 3).sum()} of {len(shares)} cells."
        )
    students = psnr[[name for name in psnr if name != "zero_filled" and "teacher" not in name]].dropna()
    taught = [method for method, _ in PAYS if method in students]
    if len(taught) > 1:
        untaught = (~students.idxmax(axis=1).isin(taught)).sum()
        lines.append(
            f"The best of all students, each at its own cost, had no teacher in {untaught} of {len(students)} cells."
        )
    orders = {name: _in_order(table, name) for name in ("test", "people")}
    on_people = f"; on the real people in {orders['people']}" if orders["people"] else ""
    lines.append(
        f"The paper's order, zero-filled < student < distilled < teacher, comes out in {orders['test']} cells{on_people}."
    )
    if people is not None and (lost := "; ".join(_lost(people))):
        lines.append(f"Further from the truth than no network: {lost}.")
    return "\n".join(lines) + "\n"


class Found(NamedTuple):
    """What a part of an experiment found: what people call its setting; its rows on a test set, by method; their
    comparisons in PSNR."""

    setting: str
    table: pd.DataFrame
    tests: pd.DataFrame

    def lead(self, a: str, b: str) -> pd.Series | None:
        """The comparison of a with b; None where there is none."""
        found = self.tests[(self.tests.a == a) & (self.tests.b == b)]
        return None if found.empty else found.iloc[0]

    def share(self, name: str, teacher: str = "teacher") -> float:
        """The share of a teacher's lead over the network alone at a row's cost that the row wins back; NaN where one of the
        three isn't there, or the teacher doesn't lead (`rendering.share`)."""
        psnr, control = self.table.psnr, self.table.control.get(name)
        alone = psnr.get(control, math.nan)
        return float(share(psnr.get(name, math.nan) - alone, psnr.get(teacher, math.nan) - alone))


def found_by(study: Study, part: str, test_set: str = "test") -> list[Found]:
    """What is there of a part on one test set, from the study's tables, of each experiment that asks for it."""
    found = []
    for name, asked in study.profile.experiments.items():
        paths = [study.table(f"{name}_{part}{which}") for which in ("", "_significance")]
        if part in study.experiment_parts(name) and all(path.exists() for path in paths):
            table, tests = (read[read.set == test_set] for read in map(pd.read_csv, paths))
            setting = Cell(asked.dataset, asked.degradation.acceleration).label
            if table.empty:  # of other images than that set's
                continue
            found.append(Found(setting, table.set_index("method"), tests[tests.metric == "psnr"]))
    return found


def leads_of(found: list[Found], name: str, other: str | None = None) -> pd.DataFrame:
    """The comparison of a row with another, or with the network alone at its cost, a row per setting in which it is
    known."""
    tests = [
        each.tests[(each.tests.a == name) & (each.tests.b == (other or each.table.control.get(name)))] for each in found
    ]
    known = pd.concat(tests) if tests else pd.DataFrame(columns=[*CELL, "difference"])
    return known[known.difference.notna()]


def long_teacher_markdown(found: list[Found], people: list[Found]) -> str:
    """What a teacher is worth that trained long, on the test sets and on real people; empty where nothing is known."""
    if not found:
        return ""
    ways = {
        "usual": "distilled by the best recipe of the table above and its own teacher, of the same seeds",
        "best": "by that and a teacher of four stages",
        "all": "the same, with attention transfer for a fifth of the time",
    }

    heads, rows, won = [*HEADS], [], []
    heads += [f"real people, {', '.join(each.setting for each in people)}"] if people else []
    for name, words in ways.items():
        real = ", ".join(number(leads_of([each], name).difference.mean(), 2, "+") for each in people)
        rows.append(
            [f"{words}, against alone for as much compute", *stands(leads_of(found, name)), *([real] if people else [])]
        )
    for name in ("best", "all"):
        shares = pd.Series([each.share(name) for each in found]).dropna()
        won.append(
            f"{percent(shares.min())} to {percent(shares.max())}, a third or more in {(shares >= 1 / 3).sum()} of "
            f"{len(shares)} cells"
        )
    where = f"{units(len(found), 'cell')}, {span(each.tests.seeds.max() for each in found)} of its seeds"
    return (
        f"By a teacher of four stages, that recipe's having two ({where}):\n\n{grid(heads, rows)}\n"
        f"Of that teacher's lead over the student alone at their cost the second row's student wins back {won[0]}; the "
        f"third row's {won[1]}.\n"
    )


def own_rates(found: Found) -> pd.DataFrame:
    """The distilled students of part `rates` and their controls, each with `validation` and `psnr` (dB) and whether it is
    the `chosen` of its kind, by the validation subjects; indexed by whether they are `taught`, and by name."""
    taught = [name for name in found.table.index if name.startswith("best_")]
    kinds = {True: taught, False: [found.table.control[name] for name in taught]}
    rows = pd.concat({kind: found.table.loc[names, ["validation", "psnr"]] for kind, names in kinds.items()})
    rows.index.names = ["taught", "method"]
    return rows.assign(chosen=rows.validation == rows.groupby("taught").validation.transform("max"))


def lead_at_own_rates(found: Found) -> float:
    """How far (dB) the distilled student is ahead of the student alone, each at the rate that its validation subjects
    prefer; NaN where a training failed."""
    rows = own_rates(found)
    if rows.psnr.isna().any():
        return math.nan
    chosen = rows[rows.chosen].psnr.groupby("taught").first()
    return float(chosen[True] - chosen[False])


def rates_in_words(found: list[Found]) -> str:
    """What is left of the lead by a long teacher where each trains at its own rate; empty where nothing is known of it."""
    known = pd.DataFrame(
        [(of.lead("best_1", of.table.control.best_1).difference, lead_at_own_rates(of)) for of in found],
        columns=["usual", "own"],
    ).dropna()
    if known.empty:
        return ""
    usual, own = (f"{mean_over(known[which])} dB on the mean, above 0 in {(known[which] > 0).sum()}" for which in known)
    return (
        "By a teacher of four stages, student and control each at the learning rate that their validation subjects prefer, "
        f"the lead is {own} of {units(len(known), 'cell')}; both at the profile's rate, of the same trainings, {usual}."
    )


def subjects_of(found: Found) -> list[int]:
    """The numbers of subjects at a site, in order (part `site`)."""
    return sorted(int(n.removeprefix("truth_")) for n in found.table.index if n.startswith("truth_"))


def site_markdown(found: list[Found]) -> str:
    """What a teacher from elsewhere is worth to a site without fully sampled scans; empty where nothing is known of it."""
    if not found:
        return ""

    tests = pd.concat(
        each.tests.assign(taught=f"teacher_of_{most}", as_many=f"truth_{most}", quarter=f"truth_{most // 4}")
        for each in found
        for most in subjects_of(each)[-1:]
    )
    known = tests[tests.difference.notna()]
    own = known[known.a == known.taught]
    far = known[known.a.str.startswith("by_set_")]
    leads = {
        "taught there, against the truth of as many subjects": own[own.b == own.as_many],
        "taught there, against the truth of a quarter of them": own[own.b == own.quarter],
        "taught there, against the one that was trained where the teacher was": own[own.b == "sent"],
        "taught by another contrast or organ, against the truth of as many": far[far.b == far.as_many],
        "taught by another contrast or organ, against the truth of a quarter": far[far.b == far.quarter],
    }
    where = ", ".join(f"{each.setting} of {units(each.tests.seeds.max(), 'seed')}" for each in found)
    return (
        f"Where a site has no fully sampled scans ({where}), and a student learns from a teacher's images of its "
        f"undersampled ones:\n\n{grid(HEADS, [[words, *stands(rows)] for words, rows in leads.items() if len(rows)])}"
    )


def whole_answer(study: Study, table: pd.DataFrame, tests: pd.DataFrame, people: pd.DataFrame | None = None) -> str:
    """The answer of Table 1 (`answer_markdown`), and what was found beside it, as far as it is there."""
    by_long = long_teacher_markdown(*(found_by(study, "long_teacher", name) for name in ("test", "people")))
    if rates := rates_in_words(found_by(study, "rates")):
        by_long += f"\n{rates}\n"
    return f"{answer_markdown(study, table, tests, people)}\n{by_long}\n{site_markdown(found_by(study, 'site'))}"


def answer_table(table: pd.DataFrame, tests: pd.DataFrame) -> str:
    """The study's answer, of Table 1 and its `significance`: where each distilled student stands against the same network
    trained alone, on every test set of several people."""
    taught = list(dict.fromkeys(table[table.control.notna() & (table.control != "")].method))
    alone = tests[
        (tests.metric == "psnr") & tests.a.isin(taught) & ~tests.b.isin(taught) & ~tests.b.str.contains("teacher")
    ]
    if alone.empty:
        return "*No set of several people: nothing can be said.*\n"
    lines, several = [], alone.seeds > 1
    over = "people, on these networks: of one seed nothing follows for others"
    if several.any():
        over = f"seeds and people{'' if several.all() else ' (of one seed over people)'}"
    note = f"*Difference in PSNR / dB, its 95% interval over {over}, and verdict. Equivalent: within ±{MARGIN:g} dB.*\n"
    for method in taught:
        asked = alone[alone.a == method]
        others, rows = list(dict.fromkeys(asked.b)), []
        for (dataset, factor, name, kind), block in asked.groupby(SET, sort=False):
            found = {row.b: row for row in block.itertuples()}
            cells = [
                f"{interval(found[b], 2)}<br>{found[b].verdict}" if not math.isnan(found[b].difference) else NONE
                for b in others
            ]
            rows.append([f"{dataset} {factor:g}x, {name}: {units(block.people.max(), kind)}", *cells])
        sides = {"above": asked.low > 0, "below": asked.high < 0, "around": (asked.low <= 0) & (asked.high >= 0)}
        for side, there in sides.items():
            counts = [f"{there[asked.b == b].sum()} of {asked[asked.b == b].difference.count()}" for b in others]
            rows.append([f"interval {side} 0", *counts])
        heads = [METHODS[b].removeprefix("Student, ") for b in others]
        lines.append(f"**{METHODS[method]}, against the same network trained alone**\n\n{grid(['', *heads], rows)}")
    return "\n".join([*lines, note])
