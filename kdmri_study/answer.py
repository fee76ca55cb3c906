"""The study's answer, of Table 1 and its comparisons: in words, and as a table. README and report begin with it."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from kdmri_lib.statistics import MARGIN
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.profile import Cell
from kdmri_study.rendering import NONE, grid, interval, number, percent, share, units
from kdmri_study.study import Study
from kdmri_study.tables import CELL, SET

PAYS = {
    ("distilled", "student_compute"): "as the paper does",
    ("he_distilled", "he_compute"): "as the paper does, but well initialised",
    ("best", "best_compute"): "by the best recipe found here",
}
"""Which comparisons of Table 1 say whether distillation pays: each against the same network alone at its cost."""


def _stands(found: pd.DataFrame) -> str:
    """How differences (dB), a row per cell, stand: in how many the interval lies above and below 0, and from where to where
    the differences go."""
    ends = dict.fromkeys(number(end, 2, "+") for end in (found.difference.min(), found.difference.max()))
    above, below = (found.low > 0).sum(), (found.high < 0).sum()
    return f"better in **{above} of {len(found)}**, worse in {below} ({' to '.join(ends)} dB)"


def shares_of_lead(tests: pd.DataFrame) -> pd.Series:
    """The share of its teacher's lead over the student alone at its cost that the best recipe's student wins back, by cell;
    NaN where that teacher doesn't lead (`rendering.share`).

    `tests` : of one set, in PSNR (`kdmri_study.tables.significance`).
    """
    leads = tests[tests.b == "best_compute"].pivot(index=CELL, columns="a", values="difference")
    leads = leads.reindex(columns=["best", "best_teacher"])
    return share(leads.best, leads.best_teacher)


def _of_people(people: pd.DataFrame, real: pd.DataFrame, a: str, b: str) -> Iterator[str]:
    """How a row stands on real people against another, and for whom which row is worse than no network."""
    ahead = (people[a] > people[b]).groupby([people[name] for name in CELL]).sum()
    leads = [
        f"{row.dataset} {row.acceleration:g}x {interval(row, 2)} dB, ahead for {ahead[row.dataset, row.acceleration]} of "
        f"{row.people}"
        for row in real.itertuples()
    ]
    yield f"On real people, {PAYS[a, b]}: {'; '.join(leads)}."
    lost = [
        f"{METHODS[name].lower()} for {row.person} at {row.acceleration:g}x, {number(getattr(row, name), 2)} dB (alone "
        f"{number(getattr(row, b), 2)}, zero-filled {number(row.zero_filled, 2)})"
        for row in people.itertuples()
        for name, b in PAYS
        if name in people and getattr(row, name) < row.zero_filled
    ]
    if lost:
        yield f"Further from the truth than no network: {'; '.join(lost)}."


def answer_in_words(study: Study, table: pd.DataFrame, tests: pd.DataFrame, people: pd.DataFrame | None = None) -> str:
    """The study's answer: in how many cells each way to distil pays, by how much, on whom, for how many seeds.

    `table`, `tests`, `people` : Table 1, its comparisons, and each real person, if any (`derived.table1_tables`). Rows that
    a profile hasn't, and trainings that failed, are left out.
    """
    volumes = table[(table.aggregation == "volume") & (table.set == "test")]
    psnr = volumes.pivot(index=CELL, columns="method", values="psnr")
    asked = tests[(tests.metric == "psnr") & tests.difference.notna()]
    test = asked[asked.set == "test"]

    def of(a: str, b: str) -> pd.DataFrame:
        return test[(test.a == a) & (test.b == b)]

    known = [pair for pair in PAYS if not of(*pair).empty]
    if not known:
        return "Nothing can be said: there is no cell of several people, or its trainings failed.\n"
    seeds = dict.fromkeys(map(str, sorted({test.seeds.min(), test.seeds.max()})))
    over = "over seeds and people" if test.seeds.max() > 1 else "over people, for these networks"
    over += ", of one seed over people, for its networks" if test.seeds.min() == 1 < test.seeds.max() else ""
    images = " and ".join(f"{kind}s" for kind in dict.fromkeys(volumes.kind))
    lines = [
        "Distilled, against the same network trained alone for as much compute, the teacher given. PSNR on the test sets "
        f"({images}) of {len(psnr)} of {len(study.cells)} cells, {' to '.join(seeds)} of {len(study.profile.seeds)} seeds; "
        f"better or worse where the 95% interval, {over}, lies above or below 0.\n"
    ]
    lines += [f"- {PAYS[pair]}: {_stands(of(*pair))}" for pair in known]
    if ("best", "best_compute") in known and (shares := shares_of_lead(test).dropna()).size:
        lines[-1] += (
            f"; of its teacher's lead over the same network alone it wins back {percent(shares.min())} to "
            f"{percent(shares.max())}, a third or more in {(shares >= 1 / 3).sum()}"
        )
    lines.append("")
    a, b = known[-1]
    real = asked[(asked.set == "people") & (asked.a == a) & (asked.b == b)]
    if people is not None and len(real):
        lines.append(f"{' '.join(_of_people(people, real, a, b))}\n")
    starts = {
        ("he_student", "student"): "for one stage",
        ("he_compute", "student_compute"): "for the distilled one's cost",
    }
    gains = [f"{words} {_stands(found)}" for pair, words in starts.items() if len(found := of(*pair))]
    if gains:
        lines.append(f"Well initialised (He et al.), the student alone is, without any teacher, {'; '.join(gains)}.\n")
    rivals = {"best": "the best recipe's student", "best_compute": "the same alone for as much compute"}
    stands = [f"{words} is {_stands(found)}" for a, words in rivals.items() if len(found := of(a, "teacher"))]
    if stands:
        if len(well := of("best", "he_teacher")):
            stands.append(f"against that teacher, well initialised, the best recipe's student is {_stands(well)}")
        lines.append(f"Against the teacher as published, on the test sets, {'; '.join(stands)}.\n")
    chain = psnr[["zero_filled", "student", "distilled", "teacher"]].dropna()
    in_order = (chain.diff(axis=1).iloc[:, 1:] > 0).all(axis=1).sum()
    lines.append(
        f"The paper's order, zero-filled < student < distilled < teacher, comes out in {in_order} of {len(chain)} cells.\n"
    )
    return "\n".join(lines)


class Site(NamedTuple):
    """What an experiment found of a site without fully sampled scans: what people call its setting; its rows on the test
    set, by method; their comparisons in PSNR; numbers of subjects at the site, in order."""

    setting: str
    table: pd.DataFrame
    tests: pd.DataFrame
    sizes: list[int]


def sites(study: Study) -> list[Site]:
    """What is there of a site without fully sampled scans, from the study's tables."""
    found = []
    for name, asked in study.profile.experiments.items():
        paths = [study.table(f"{name}_site{which}") for which in ("", "_significance")]
        if "site" in study.experiment_parts(name) and all(path.exists() for path in paths):
            table, tests = (pd.read_csv(path).query("set == 'test'") for path in paths)
            table, tests = table.set_index("method"), tests[tests.metric == "psnr"]
            sizes = sorted(int(n.removeprefix("truth_")) for n in table.index if n.startswith("truth_"))
            found.append(Site(Cell(asked.dataset, asked.degradation.acceleration).label, table, tests, sizes))
    return found


def site_in_words(found: list[Site]) -> str:
    """What a teacher from elsewhere is worth to a site without fully sampled scans; empty where nothing is known of it."""
    if not found:
        return ""

    tests = pd.concat(
        each.tests.assign(taught=f"teacher_of_{most}", as_many=f"truth_{most}", quarter=f"truth_{most // 4}")
        for each in found
        for most in each.sizes[-1:]
    )
    known = tests[tests.difference.notna()]
    own = known[known.a == known.taught]
    leads = {
        "the truth of as many subjects": own[own.b == own.as_many],
        "the truth of a quarter of them": own[own.b == own.quarter],
        "the student that was trained where the teacher was": own[own.b == "sent"],
    }
    said = [f"against {words} {_stands(rows)}" for words, rows in leads.items() if len(rows)]
    far = known[known.a.str.startswith("by_set_") & (known.b == known.as_many)]
    if len(far):
        said.append(f"by a teacher of another contrast or organ, against the truth of as many, {_stands(far)}")
    where = ", ".join(f"{each.setting} of {units(each.tests.seeds.max(), 'seed')}" for each in found)
    return (
        f"Where a site has no fully sampled scans ({where}), the student that learns from a teacher's images of the site's "
        f"undersampled scans is, {'; '.join(said)}.\n"
    )


def answer_table(table: pd.DataFrame, tests: pd.DataFrame) -> str:
    """The study's answer, of Table 1 and its `significance`: where each distilled student stands against the same network
    trained alone, on every test set of several people."""
    taught = list(dict.fromkeys(table[table.control.notna() & (table.control != "")].method))
    alone = tests[
        (tests.metric == "psnr") & tests.a.isin(taught) & ~tests.b.isin(taught) & ~tests.b.str.contains("teacher")
    ]
    if alone.empty:
        return "*No set of several people: nothing can be said.*\n"
    seeds, lines = alone.seeds.max(), []
    over = (
        f"{seeds} seeds and people"
        if seeds > 1
        else "people, on these networks: of one seed nothing follows for others"
    )
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
