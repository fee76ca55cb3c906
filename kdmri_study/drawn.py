"""What the figures of experiments are drawn from: rows, what they left, and their tables."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kdmri_lib.models.base import parameter_count
from kdmri_study.build import run_network
from kdmri_study.costs import against_compute, cost
from kdmri_study.experiments.part import Rows
from kdmri_study.metrics import Folders


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
