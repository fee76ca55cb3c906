"""What a notebook's numbers say, in a sentence or two: its last cell, from the tables that it has just made."""

import math
from collections.abc import Iterator, Mapping

import pandas as pd

from kdmri_lib.models.base import parameter_count
from kdmri_study.build import run_network
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.rendering import interval, number, percent
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study

PAYS = {
    ("distilled", "student_compute"): "as the paper does",
    ("he_distilled", "he_compute"): "as the paper does, but well initialised",
    ("best", "best_compute"): "by the best recipe found here",
}
"""Which comparisons of Table 1 say whether distillation pays: each against the same network alone at its cost."""

CELL = ["dataset", "acceleration"]


def _stands(found: pd.DataFrame) -> str:
    """How differences (dB), a row per cell, stand: in how many the interval lies above and below 0, and from where to where
    the differences go."""
    ends = dict.fromkeys(number(end, 2, "+") for end in (found.difference.min(), found.difference.max()))
    above, below = (found.low > 0).sum(), (found.high < 0).sum()
    return f"better in **{above} of {len(found)}**, worse in {below} ({' to '.join(ends)} dB)"


def shares_of_lead(tests: pd.DataFrame) -> pd.Series:
    """The share of its teacher's lead over the student alone at its cost that the best recipe's student wins back, by cell;
    NaN where that teacher doesn't lead.

    `tests` : of one set, in PSNR (`kdmri_study.tables.significance`).
    """
    leads = tests[tests.b == "best_compute"].pivot(index=CELL, columns="a", values="difference")
    leads = leads.reindex(columns=["best", "best_teacher"])
    return (leads.best / leads.best_teacher).where(leads.best_teacher > 0)


def _of_people(people: pd.DataFrame, real: pd.DataFrame, a: str, b: str) -> Iterator[str]:
    """How a row stands on real people against another, and for whom which row is worse than no network."""
    each = people.groupby(CELL, sort=False).apply(
        lambda of: (int((of[a] > of[b]).sum()), len(of)), include_groups=False
    )
    leads = []
    for row in real.itertuples():
        ahead, count = each[row.dataset, row.acceleration]
        leads.append(f"{row.dataset} {row.acceleration:g}x {interval(row, 2)} dB, ahead for {ahead} of {count}")
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
