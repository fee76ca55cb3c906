"""What a notebook's numbers say, in a sentence or two: its last cell, from the tables that it has just made."""

import math
from collections.abc import Mapping

import pandas as pd

from kdmri_lib.models.base import parameter_count
from kdmri_study.build import run_network
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.rendering import interval, number, percent, units
from kdmri_study.runs import RunFolder

PAYS = {
    ("distilled", "student_compute"): "as the paper does",
    ("he_distilled", "he_compute"): "as the paper does, but well initialised",
    ("best", "best_compute"): "by the best recipe found here",
}
"""Which comparisons of Table 1 say whether distillation pays: each against the same network alone at its cost."""

CELL = ["dataset", "acceleration"]


def _stands(found: pd.DataFrame) -> str:
    """How differences (dB), a row per cell, stand: in how many ahead, by how much, and where their intervals lie."""
    ends = " to ".join(number(end, 2, "+") for end in (found.difference.min(), found.difference.max()))
    above, below = (found.low > 0).sum(), (found.high < 0).sum()
    return (
        f"ahead in **{(found.difference > 0).sum()} of {len(found)}** ({ends} dB; interval above 0 in {above}, below 0 in "
        f"{below})"
    )


def shares_of_lead(tests: pd.DataFrame) -> pd.Series:
    """The share of its teacher's lead over the student alone at its cost that the best recipe's student wins back, by cell;
    NaN where that teacher doesn't lead.

    `tests` : of one set, in PSNR (`kdmri_study.tables.significance`).
    """
    leads = tests[tests.b == "best_compute"].pivot(index=CELL, columns="a", values="difference")
    return (leads.best / leads.best_teacher).where(leads.best_teacher > 0)


def answer_in_words(table: pd.DataFrame, tests: pd.DataFrame, people: pd.DataFrame | None = None) -> str:
    """The study's answer: in how many cells each way to distil pays, by how much, on whom, for how many seeds.

    `table`, `tests`, `people` : Table 1, its comparisons, and each real person, if any (`derived.table1_tables`). Rows that
    a profile hasn't, and trainings that failed, are left out.
    """
    psnr = table[(table.aggregation == "volume") & (table.set == "test")].pivot(
        index=CELL, columns="method", values="psnr"
    )
    asked = tests[(tests.metric == "psnr") & tests.difference.notna()]
    test = asked[asked.set == "test"]
    pairs = {pair: test[(test.a == pair[0]) & (test.b == pair[1])] for pair in PAYS}
    known = [pair for pair in PAYS if not pairs[pair].empty]
    if not known:
        return "Of no cell can anything be said: there is none with several people, or its trainings failed.\n"
    seeds = sorted({test.seeds.min(), test.seeds.max()})
    over = (
        "over people, for these networks: one seed says nothing of another" if seeds == [1] else "over seeds and people"
    )
    over += ", of one seed over people" if seeds[0] == 1 < seeds[-1] else ""
    lines = [
        "Distilled, against the same network trained alone for as much compute, the teacher given; PSNR on generated "
        f"images, {len(psnr)} cells of Table 1, {' to '.join(map(str, seeds))} seed{'s' * (seeds != [1])} (95% intervals "
        f"{over}):\n"
    ]
    lines += [f"- {PAYS[pair]}: {_stands(pairs[pair])}" for pair in known]
    if ("best", "best_compute") in known and (shares := shares_of_lead(test).dropna()).size:
        lines[-1] += (
            f"; it wins back {percent(shares.min())} to {percent(shares.max())} of its teacher's lead, a third or more in "
            f"{(shares >= 1 / 3).sum()}"
        )
    lines.append("")
    a, b = known[-1]
    real = asked[(asked.set == "people") & (asked.a == a) & (asked.b == b)]
    if people is not None and len(real) and {a, b} <= set(people):
        leads = "; ".join(f"{row.dataset} {row.acceleration:g}x {interval(row, 2)}" for row in real.itertuples())
        worst = people.loc[(people[a] - people.zero_filled).idxmin()]
        reached = [number(worst[name], 2) for name in (a, b, "zero_filled")]
        lines.append(
            f"On {units(real.people.max(), 'real MR')}, {PAYS[a, b]}: {leads} dB. It gains least for {worst.person} at "
            f"{worst.acceleration:g}x: {reached[0]} dB, alone {reached[1]}, zero-filled {reached[2]}.\n"
        )
    against = test[(test.b == "teacher") & test.a.isin(["best", "best_compute", "student_compute"])]
    if len(against):
        each = "; ".join(f"{METHODS[a].lower()}: {_stands(found)}" for a, found in against.groupby("a"))
        lines.append(f"Against the teacher as published, three times its size: {each}.\n")
    chain = ["zero_filled", "student", "distilled", "teacher"]
    in_order = (psnr[chain].diff(axis=1).iloc[:, 1:] > 0).all(axis=1).sum()
    lines.append(
        f"The paper's order, zero-filled < student < distilled < teacher, comes out in {in_order} of {len(psnr)} cells.\n"
    )
    return "\n".join(lines)


def undersampling_in_words(worth: pd.DataFrame) -> str:
    """What is lost by each mask, of the table `tables.symmetry`."""
    psnr = worth.set_index("mask")["zero-filled PSNR / dB"]
    each = ", ".join(f"{mask} {value:.2f} dB" for mask, value in psnr.items())
    return f"Zero-filled, a test volume's PSNR is: {each}. That is where every network begins."


def alone_in_words(folders: Mapping[int, Mapping[str, RunFolder]]) -> str:
    """How teacher and student stand that trained alone, by their folders by seed: means over seeds and test volumes."""
    found = {
        name: pd.concat([methods[name].volumes for methods in folders.values()]).query("set == 'test'").psnr.mean()
        for name in ("teacher", "student")
    }
    if missing := [name for name, psnr in found.items() if math.isnan(psnr)]:
        return f"Nothing can be said, since a training failed: {', '.join(missing)}."
    some = next(iter(folders.values()))
    counts = {name: parameter_count(run_network(some[name].run)) for name in found}
    gap = found["student"] - found["teacher"]
    question = " Whether a teacher's help brings that back is the next notebook's question." if gap < 0 else ""
    return (
        f"On the test set the teacher reaches {found['teacher']:.2f} dB and the student, with "
        f"{counts['student'] / counts['teacher']:.0%} of its parameters, {found['student']:.2f} dB: "
        f"{number(gap, 2, '+')} dB.{question}"
    )


def part_in_words(title: str, table: pd.DataFrame, tests: pd.DataFrame | None) -> str:
    """An experiment's rows on its test set: the best of those that a teacher helped, and how they stand against the same
    network alone at their cost. Empty where no row was helped.

    `table`, `tests` : its tables (`derived.experiment_tables`); None where nothing is compared.
    """
    helped = table[(table.set == "test") & (table.control.fillna("") != "") & table.psnr.notna()]
    if helped.empty:
        return ""
    best = helped.sort_values("psnr").iloc[-1]
    said = f"**{title}.** Highest on the test set of what a teacher helped: {best.label}, {best.psnr:.2f} dB."
    if tests is None or tests.empty:
        return said
    asked = tests[(tests.metric == "psnr") & (tests.set == "test")]
    own = asked.merge(helped[["method", "control"]], left_on=["a", "b"], right_on=["method", "control"])
    if own.empty or own.difference.isna().all():
        return said
    above, below = int((own.low > 0).sum()), int((own.high < 0).sum())
    lead, over = own[own.a == best.method].difference, "seeds and people" if own.seeds.max() > 1 else "people"
    stands = (
        f" It stands {number(lead.iloc[0], 2, '+')} dB from the same network alone at its cost." if len(lead) else ""
    )
    return (
        f"{said}{stands} Of {len(own)} such comparisons the 95% interval (over {over}) lies above 0 in {above}, "
        f"below 0 in {below}, and holds 0 in {len(own) - above - below}."
    )


def deployment_in_words(sizes: pd.DataFrame, times: pd.DataFrame, quality: pd.DataFrame, method: str) -> str:
    """What the small network costs and loses: of the tables of sizes, of times and of quality in notebook 07."""
    parameters = sizes.set_index("network").parameters
    ms = times.set_index(["network", "implementation"]).ms
    ratio = (ms["teacher"] / ms["student"]).dropna()
    fastest = ms["student"].dropna().idxmin()
    lost = quality.set_index("computed by")["psnr lost"].dropna()
    named = METHODS[method].lower()
    worst = f"Of the {named} there is no network, since a training failed."
    if len(lost):
        worst = f"Of the ways to compute the {named}, the worst loses {lost.max():.3f} dB ({lost.idxmax()})."
    return (
        f"The student holds {parameters['student'] / parameters['teacher']:.0%} of the teacher's parameters and is "
        f"{ratio.min():.1f} to {ratio.max():.1f} times as fast, each computed in the same way. Fastest here: {fastest}, "
        f"{ms['student', fastest]:.1f} ms per slice. {worst}"
    )
