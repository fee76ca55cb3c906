"""What a notebook's numbers say, in a sentence or two: its last cell, from the tables that it has just made."""

import math
from collections.abc import Mapping

import pandas as pd

from kdmri_lib.models.base import parameter_count
from kdmri_study.answer import decided
from kdmri_study.build import run_network
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.rendering import number
from kdmri_study.runs import RunFolder


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
    above, below = decided(own)
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
