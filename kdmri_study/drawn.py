"""The figures of experiments, which follow from curves and metrics as their tables do.

Notebooks draw them, and `python -m kdmri_lib tables` does of the committed evidence.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdmri_lib import figures
from kdmri_lib.models.base import parameter_count
from kdmri_study.build import run_network
from kdmri_study.costs import against_compute, cost
from kdmri_study.derived import Measured
from kdmri_study.experiments.part import Rows
from kdmri_study.jobs import jobs
from kdmri_study.metrics import Folders
from kdmri_study.rendering import units
from kdmri_study.study import Study


def curves(rows: Rows, folders: Folders) -> tuple[dict[str, list[pd.DataFrame]], list[tuple[float, list[float]]]]:
    """The validation curves of rows by label, one of each seed, against compute; and of the student trained alone for
    longer, and for one stage, cost and final values (`kdmri_lib.figures.learning_curves`)."""
    lines = {key: row for key, row in rows.items() if not row.facts.get("longer")}
    found = {
        row.label: [against_compute(named[key].run, named[key].curve) for named in folders.values()]
        for key, row in lines.items()
    }
    longer = [
        key
        for key, row in rows.items()
        if row.facts.get("longer") and "student" in rows and row.run.network == rows["student"].run.network
    ]
    points = [
        (cost(rows[key].run).given, [float(named[key].curve.validation_psnr.iloc[-1]) for named in folders.values()])
        for key in (["student", *longer] if longer else [])
    ]
    return found, sorted(points)


def _test_psnr(table: pd.DataFrame) -> pd.Series:
    return table[table.set == "test"].set_index("method").psnr


def _differences(tests: pd.DataFrame) -> Mapping[tuple[str, str], Sequence[float]]:
    """Difference in test PSNR (dB), and its interval, of each pair of rows that was compared."""
    psnr = tests[(tests.set == "test") & (tests.metric == "psnr")]
    return {(row.a, row.b): (row.difference, row.low, row.high) for row in psnr.itertuples()}


def _difference(psnr: pd.Series, compared: Mapping, a: str, b: str) -> dict[str, float]:
    """Of two rows; without an interval where nothing was compared, as of a single person."""
    values = compared.get((a, b), (psnr[a] - psnr[b], np.nan, np.nan))
    return dict(zip(("difference", "low", "high"), values, strict=True))


def positions(rows: Rows, table: pd.DataFrame, tests: pd.DataFrame, chosen: str) -> tuple[pd.DataFrame, tuple, float]:
    """What `kdmri_lib.figures.positions` draws; `chosen` is the row of the paper's pair."""
    psnr, compared = _test_psnr(table), _differences(tests)
    pairs = {name: row.facts for name, row in rows.items() if "teacher" in row.facts}
    found = [dict(facts) | _difference(psnr, compared, name, chosen) for name, facts in pairs.items()]
    return pd.DataFrame(found), (pairs[chosen]["teacher"], pairs[chosen]["student"]), psnr[chosen]


def sizes(rows: Rows, table: pd.DataFrame, tests: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """What `kdmri_lib.figures.sizes` draws: a row per size, and the teacher's test PSNR."""
    psnr, compared = _test_psnr(table), _differences(tests)
    by_size: dict[str, dict[str, str]] = {}
    for name, row in rows.items():
        if "how" in row.facts:
            by_size.setdefault(row.facts["size"], {})[row.facts["how"]] = name
    found = []
    for size, named in by_size.items():
        distilled = rows[named["distilled"]]
        lead = _difference(psnr, compared, named["distilled"], distilled.control)
        found.append(
            {
                "size": size,
                "parameters": parameter_count(run_network(distilled.run)),
                **{how: psnr[name] for how, name in named.items()},
                "alone_at_cost": psnr[distilled.control],
                **{"lead": lead["difference"], "low": lead["low"], "high": lead["high"]},
            }
        )
    return pd.DataFrame(found), psnr["teacher"]


def by(found: Measured, fact: str) -> dict[str, list[tuple[float, float]]]:
    """Points (the fact, test PSNR in dB) of the rows that have it, by what they say of "how"."""
    psnr, lines = _test_psnr(found.table), {}
    for name, row in found.rows.items():
        if fact in row.facts:
            lines.setdefault(row.facts["how"], []).append((row.facts[fact], psnr[name]))
    return lines


def lengths(found: Measured, column: str) -> dict[str, list[tuple[float, float]]]:
    """Points (multiply-accumulates, test PSNR in dB) of each way to train, and length of its teacher; `column` says whether
    the teacher's training counts."""
    words = {"alone": "student alone", "paper": "the paper's method", "best": "the best recipe", "teacher": "teacher"}

    def called(facts: Mapping) -> str:
        by = f", teacher of {units(facts['teacher'], 'stage')}" if "teacher" in facts else ""
        return words[facts["how"]] + by

    return _across(found, column, called)


def by_steps(found: Measured) -> dict[str, list[tuple[float, float]]]:
    """Points (optimiser steps, test PSNR in dB) of the rows, by what they say of "how"."""
    return _across(found, "steps", lambda facts: facts["how"])


def _across(found: Measured, column: str, called: Callable[[Mapping], str]) -> dict[str, list[tuple[float, float]]]:
    """Points (a column of the table, test PSNR in dB) of the rows that say "how"; `called`: a row's line, by its facts."""
    test, lines = found.table[found.table.set == "test"].set_index("method"), {}
    for name, row in found.rows.items():
        if "how" in row.facts:
            lines.setdefault(called(row.facts), []).append((test[column][name], test.psnr[name]))
    return lines


def subjects(found: Measured) -> dict[str, list[tuple[float, float]]]:
    """Points (subjects at the site, test PSNR in dB) of each way to train there, and of the student that was sent."""
    lines, sent = by(found, "subjects"), _test_psnr(found.table)["sent"]
    return {"truth where the teacher was, none here": [(size, sent) for size, _ in lines["truth"]]} | lines


def _curves(found: Measured, title: str) -> Figure:
    curved, alone = curves(found.rows, found.folders)
    return figures.learning_curves(curved, title, alone)


def _map(found: Measured, title: str) -> Figure:
    return figures.positions(*positions(found.rows, found.table, found.tests, found.reference), title)


def _points(found: Measured, title: str) -> Figure:
    return figures.sizes(*sizes(found.rows, found.table, found.tests), title)


def _lines(found: Measured, groups: Mapping, across: str, title: str) -> Figure:
    return figures.lines(groups, across, f"test PSNR / dB ({units(len(found.folders), 'seed')})", title)


def _cost(found: Measured, title: str) -> Figure:
    return _lines(found, lengths(found, "macs_given"), "multiply-accumulates, teacher given", title)


def _whole(found: Measured, title: str) -> Figure:
    return _lines(found, lengths(found, "macs_whole"), "multiply-accumulates, the teacher's training included", title)


def _steps(found: Measured, title: str) -> Figure:
    return _lines(found, by_steps(found), "optimiser steps of training", title)


def _subjects(found: Measured, title: str) -> Figure:
    return _lines(found, subjects(found), "subjects at the site, with truth where some have it", title)


# By the names of a part's figures.
DRAWN: dict[str, Callable[[Measured, str], Figure]] = {
    "curves": _curves,
    "map": _map,
    "points": _points,
    "cost": _cost,
    "whole": _whole,
    "steps": _steps,
    "subjects": _subjects,
}


def drawn(found: Measured, title: Callable[[str], str]) -> Iterator[tuple[str, Figure]]:
    """The figures of a part, each by its name; `title` says what a figure of that name is called."""
    for key in found.part.figures:
        name = f"{found.name}_{key}"
        yield name, DRAWN[key](found, title(name))


def write_figures(study: Study, parts: Iterable[Measured]) -> Iterator[Path]:
    """Write the figures of parts of a study; where each lies."""
    titles = {output.name: output.title for job in jobs(study) for output in job.outputs}
    for found in parts:
        for name, figure in drawn(found, titles.__getitem__):
            figures.save(figure, study.figure(name), study.stamp, found.names)
            plt.close(figure)
            yield study.figure(name)
