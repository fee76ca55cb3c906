"""From metrics to means and comparisons. Nothing here reads a file or knows of a study.

Metrics are data frames with a row per volume, or per slice, of each method and seed (`kdmri_lib.evaluation.evaluate`, with
columns method, seed, dataset and acceleration); the seed is -1 where nothing was trained.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import pandas as pd

from kdmri_lib.evaluation import METRICS
from kdmri_lib.statistics import Comparison, compare, holm, interval, verdict

SETS = ("test", "strangers", "plain", "people", "individual", "template", "flair", "ir")  # in this order in tables
SETTING = ["dataset", "acceleration"]
SET = [*SETTING, "set", "kind"]  # what one test set of one setting is told by


def _in_order(table: pd.DataFrame, *more: str) -> pd.DataFrame:
    """Rows by data set, acceleration and set, then as they are or by the columns `more`, which are dropped."""
    place = {name: number for number, name in enumerate(SETS)}

    def key(column: pd.Series) -> pd.Series:
        return column.map(lambda name: place.get(name, len(place))) if column.name == "set" else column

    return table.sort_values([*SET, *more], key=key, kind="stable", ignore_index=True).drop(columns=list(more))


def _over_seeds(metrics: pd.DataFrame, unit: list[str]) -> pd.DataFrame:
    """Mean over seeds of each method and person (and slice); NaN where a seed's training failed, since the mean of the
    others would be of fewer seeds than the table says."""
    return metrics.groupby([*SET, "method", *unit], as_index=False)[list(METRICS)].mean(skipna=False)


def summary(metrics: pd.DataFrame, aggregation: str, methods: Iterable[str]) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) of each of `methods`, in their order: over people, a person's volumes averaged
    ("volume"), or over slices ("slice"). The standard deviation is NaN for a set of one."""
    unit = ["person"] if aggregation == "volume" else ["person", "subject", "slice"]
    groups = _over_seeds(metrics, unit).groupby([*SET, "method"])[list(METRICS)]
    deviation = groups.std(skipna=False).add_suffix("_sd")
    table = groups.mean(skipna=False).join(deviation).join(groups.size().rename("n")).reset_index()
    table = table.assign(aggregation=aggregation, seeds=metrics[metrics.seed >= 0].seed.nunique())
    order = {method: place for place, method in enumerate(methods)}
    return _in_order(table[table.method.isin(order)].assign(place=lambda t: t.method.map(order)), "place")


def each_person(volumes: pd.DataFrame, methods: Iterable[str], name: str = "people") -> pd.DataFrame:
    """PSNR (dB) of each person of a test set, whom a mean over people hides, by each of `methods`: a row per person, a mean
    over seeds and the person's volumes."""
    found = volumes[(volumes.set == name) & volumes.method.isin(list(methods))]
    means = _over_seeds(found, ["person"]).pivot(index=[*SETTING, "person"], columns="method", values="psnr")
    return means[[method for method in methods if method in means]].reset_index().rename_axis(columns=None)


def comparisons(volumes: pd.DataFrame, questions: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Every question (a against b) on each set of several people, in PSNR (dB) and in SSIM: `statistics.compare`.

    `by_seed` and `which_seeds` are text, a number per seed. Several settings' tables may be joined, and then `decided`.
    """
    rows = []
    people = volumes.groupby([*SET, "method", "seed", "person"])[["psnr", "ssim"]].mean(skipna=False)
    for key, group in people.groupby(SET):
        wide = group.droplevel(SET).unstack("person")
        if wide["psnr"].shape[1] < 2:
            continue
        seeds = sorted(seed for seed in wide.index.unique("seed") if seed >= 0)
        for metric in ("psnr", "ssim"):
            values = wide[metric]
            each = {method: _by_seed(values, method, seeds) for method in {*chain.from_iterable(questions)}}
            for a, b in questions:
                found = compare(each[a], each[b])._asdict()
                found["by_seed"] = " ".join(f"{value:+.4f}" for value in found["by_seed"])
                found["which_seeds"] = " ".join(map(str, seeds))
                rows.append({**dict(zip(SET, key, strict=True)), "metric": metric, "a": a, "b": b, **found})
    return _in_order(pd.DataFrame(rows, columns=[*SET, "metric", "a", "b", *Comparison._fields, "which_seeds"]))


def _by_seed(values: pd.DataFrame, method: str, seeds: Sequence[int]) -> np.ndarray:
    """(seeds, people) of a method; what isn't trained is the same for every seed."""
    of_method = values.loc[method]
    return of_method.reindex(seeds if of_method.index.max() >= 0 else [-1] * len(seeds)).to_numpy()


def decided(table: pd.DataFrame) -> pd.DataFrame:
    """`comparisons`, p-values corrected by Holm over the settings of one question on one set, and a verdict on PSNR."""
    for p in ("p_seeds", "p_people"):
        table[f"{p}_holm"] = table.groupby(["set", "metric", "a", "b"])[p].transform(lambda v: holm(v.tolist()))
    words = [verdict(row.low, row.high, row.p_seeds_holm) if row.metric == "psnr" else "" for row in table.itertuples()]
    return table.assign(verdict=words)


def over_settings(table: pd.DataFrame) -> pd.DataFrame:
    """Each question on each set in PSNR (dB), over the settings: the mean of their differences, in how many it is above 0,
    the mean over settings by each seed that all have, and Student's interval of these."""
    rows = []
    for (name, a, b), group in table[table.metric == "psnr"].groupby(["set", "a", "b"], sort=False):
        pairs = zip(group.which_seeds, group.by_seed, strict=True)
        each = [dict(zip(which.split(), map(float, text.split()), strict=True)) for which, text in pairs]
        common = [seed for seed in each[0] if all(seed in of for of in each)]
        by_seed = np.mean([[of[seed] for seed in common] for of in each], axis=0)
        low, high = interval(by_seed)
        ahead = int((group.difference > 0).sum())
        text = " ".join(f"{value:+.4f}" for value in by_seed)
        mean = group.difference.mean(skipna=False)
        rows.append([name, a, b, mean, low, high, ahead, len(group), len(common), text])
    columns = ["set", "a", "b", "difference", "low", "high", "ahead", "settings", "seeds", "by_seed"]
    return pd.DataFrame(rows, columns=columns)


def beside_each_other(
    magnitude: tuple[pd.DataFrame, pd.DataFrame], complex_: tuple[pd.DataFrame, pd.DataFrame]
) -> pd.DataFrame:
    """Magnitude and complex images of one setting, each by its rows of Table 1 and their `comparisons`: a row per set and
    method.

    Columns, each ending in _magnitude and in _complex: psnr, psnr_sd, ssim, ssim_sd; lead, low and high, the difference in
    PSNR (dB) to the row's control, the same network alone at its cost, and its interval. Of the people: those of both.
    """
    metrics, lead = ["psnr", "psnr_sd", "ssim", "ssim_sd"], ["lead", "low", "high"]
    arms = []
    for table, tests in (magnitude, complex_):
        asked = tests[tests.metric == "psnr"].rename(columns={"difference": "lead", "a": "method", "b": "control"})
        per_volume = table[table.aggregation == "volume"].assign(control=lambda t: t.control.fillna(""))
        on = ["set", "method", "control"]
        arms.append(per_volume.merge(asked[[*on, *lead]], how="left", on=on))
    one, other = arms
    kept = other[["set", "method", "n", "seeds", *metrics, *lead]]
    table = one.merge(kept, on=["set", "method", "n", "seeds"], suffixes=("_magnitude", "_complex"))
    both = [f"{name}_{arm}" for name in (*metrics, *lead) for arm in ("magnitude", "complex")]
    return table[[*SET, "method", "control", "n", "seeds", *both]]


def crossings(table: pd.DataFrame, alone: Sequence[str]) -> pd.DataFrame:
    """What training alone would cost to do as well, of the test set: a row per row of an experiment's table that a teacher
    helped.

    Between the lengths of the rows `alone` their PSNR, a mean over seeds, is taken to be linear in the logarithm of the
    cost; where the curve falls, what was reached stays reached, in favour of training alone.

    Columns: row; PSNR / dB; the student alone takes, "about" where the curve passes that PSNR, else "less than" its first
    cost or "more than" its last; compute / 10¹²; how many times the row's own cost that is, without its teacher's training
    and with it: above 1 distillation is the cheaper way. Of a row whose training failed there is nothing, and one of
    `alone` is no point of the curve.
    """
    test = table[(table.set == "test") & table.steps.notna()].set_index("method")
    curve = test.loc[list(alone)].dropna(subset=["psnr"]).sort_values("macs_given")
    costs, reached = curve.macs_given.to_numpy(), np.maximum.accumulate(curve.psnr.to_numpy())
    first = np.concatenate(([True], np.diff(reached) > 0))  # of equal values: the cost at which it was reached
    found = []
    for row in test[~test.index.isin(alone) & (test.control != "")].itertuples():
        if np.isnan(row.psnr) or curve.empty:
            continue
        takes = "less than" if row.psnr < reached[0] else "more than" if row.psnr > reached[-1] else "about"
        # Longer trainings than that which reached most reached no more either: "more than" is of the longest.
        cost = costs[-1] if takes == "more than" else np.exp(np.interp(row.psnr, reached[first], np.log(costs[first])))
        found.append([row.label, row.psnr, takes, cost / 1e12, cost / row.macs_given, cost / row.macs_whole])
    columns = ["row", "PSNR / dB", "the student alone takes", "compute / 10¹²"]
    columns += ["times, without its teacher's training", "times, with it"]
    return pd.DataFrame(found, columns=columns)
