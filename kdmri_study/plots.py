"""The figures of experiments, which follow from curves and metrics as their tables do."""

from collections.abc import Callable, Iterator, Mapping

import pandas as pd
from matplotlib.figure import Figure

from kdmri_lib import figures
from kdmri_lib.declared import run_network
from kdmri_lib.models.base import parameter_count
from kdmri_study.paper import answered
from kdmri_study.recipes import Rows, against_compute, cost


def learning_curves(rows: Mapping[int, Rows], outcome: Callable, title: str) -> Figure:
    """Validation PSNR of rows by seed against compute, a line each; of one network trained for longer, and for one stage,
    final values. `outcome` gives a run's `Outcome`."""
    first = next(iter(rows.values()))

    def longer(name: str) -> bool:
        return bool(first[name].facts.get("longer"))

    lines = {
        row.label: [against_compute(named[name].run, outcome(named[name].run).curve) for named in rows.values()]
        for name, row in first.items()
        if not longer(name)
    }
    student = first["student"].run.network if "student" in first else None
    alone = [name for name, row in first.items() if longer(name) and row.run.network == student]
    points = [
        (cost(first[n].run).given, [float(outcome(r[n].run).curve.validation_psnr.iloc[-1]) for r in rows.values()])
        for n in (["student", *alone] if alone else [])
    ]
    return figures.learning_curves(lines, title, sorted(points))


def positions(found) -> tuple[pd.DataFrame, tuple[int, int], float]:
    """What `kdmri_lib.figures.positions` draws of the part of that name."""
    pairs = {name: row.facts for name, row in found.first.items() if "teacher" in row.facts}
    table = pd.DataFrame([dict(facts) | found.difference(name, found.reference) for name, facts in pairs.items()])
    chosen = pairs[found.reference]
    return table, (chosen["teacher"], chosen["student"]), float(found.on().psnr[found.reference])


def sizes(found) -> tuple[pd.DataFrame, float]:
    """What `kdmri_lib.figures.sizes` draws: a row per size, and the teacher's test PSNR."""
    rows, psnr, table = found.first, found.on().psnr, []
    named = {(row.facts["size"], row.facts["how"]): name for name, row in rows.items() if "how" in row.facts}
    for size in dict.fromkeys(size for size, _ in named):
        alone, distilled = named[size, "alone"], named[size, "distilled"]
        control, lead = rows[distilled].control, found.difference(distilled, rows[distilled].control)
        of = {"size": size, "parameters": parameter_count(run_network(rows[distilled].run))}
        of |= {"alone": psnr[alone], "distilled": psnr[distilled], "alone_at_cost": psnr[control]}
        table.append(of | {"lead": lead["difference"], "low": lead["low"], "high": lead["high"]})
    return pd.DataFrame(table), psnr["teacher"]


Lines = dict[str, list[tuple[float, float]]]
# What a line is called, by the fact "how" of its rows, where that doesn't say it.
WAYS = {
    "alone": "without a teacher",
    "paper": "the paper's method",
    "best": "from the teacher's weights, imitation",
}


def across(found, column: str) -> Lines:
    """Points (a column of the table, or a fact; test PSNR in dB) of the rows that say "how", a line for each way, and for
    each length of the teacher."""
    test, lines = found.on(), {}
    for name, row in found.first.items():
        at = test[column][name] if column in test else row.facts.get(column)
        if "how" in row.facts and at is not None:
            by = f", teacher of {row.facts['teacher']}" if "teacher" in row.facts else ""
            lines.setdefault(WAYS.get(row.facts["how"], row.facts["how"]) + by, []).append((at, test.psnr[name]))
    return lines


def _sites(found) -> Lines:
    lines, sent = across(found, "subjects"), found.on().psnr["sent"]
    return {"truth where the teacher was, none here": [(size, sent) for size, _ in lines["truth"]]} | lines


def answer(comparisons: pd.DataFrame) -> Figure | None:
    """What a teacher is worth at each setting of Table 1, and on real people, from its `comparisons`; None where none of it
    is asked."""
    asked = comparisons[comparisons.set.isin(["test", "people"]) & (comparisons.metric == "psnr")]
    asked = asked.sort_values("set", ascending=False, kind="stable")  # people stand last
    groups: dict[str, dict[str, list[float]]] = {}
    for pair, (student, beside) in answered(set(zip(asked.a, asked.b, strict=True))).items():
        for row in asked[(asked.a == pair[0]) & (asked.b == pair[1])].itertuples():
            where = f"{'real heads' if row.set == 'people' else row.dataset}\n{row.acceleration:g}x"
            each = [float(difference) for difference in row.by_seed.split()]
            groups.setdefault(f"{student}; compared with: {beside}", {})[where] = each
    return figures.differences(groups, "ΔPSNR: each student minus the one that it is compared with") if groups else None


def drawn(evidence, found) -> Iterator[tuple[str, Figure]]:
    """The figures of a part of an experiment (`kdmri_study.tables.Measured`), each by its name."""
    seeds, run = len(found.rows), next(iter(found.first.values())).run
    where = evidence.study.title(run.dataset.name, run.undersampling)
    label = f"test PSNR / dB ({seeds} seed{'s' * (seeds > 1)})"
    for key, words in found.part.figures.items():
        name, says = f"{found.name}_{key}", f"{where}: {words}"
        if key == "curves":
            yield name, learning_curves(found.rows, evidence.of, says)
        elif key == "map":
            yield name, figures.positions(*positions(found), says)
        elif key == "points":
            yield name, figures.sizes(*sizes(found), says)
        else:
            lines, axis = {
                "cost": lambda: (across(found, "macs_given"), "multiply-accumulates, teacher's excluded"),
                "whole": lambda: (across(found, "macs_whole"), "multiply-accumulates, teacher's included"),
                "steps": lambda: (across(found, "steps"), "optimiser steps of training"),
                "subjects": lambda: (_sites(found), "subjects at the site, with truth where some have it"),
            }[key]()
            yield name, figures.lines(lines, axis, label, says)
