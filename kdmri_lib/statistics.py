"""Is a difference real? Paired tests over test volumes, corrected for their number, with effect sizes and intervals."""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests


class Comparison(NamedTuple):
    """Of paired values a and b: mean of a - b, its bootstrap interval, Wilcoxon p, rank-biserial effect, pairs."""

    difference: float
    low: float
    high: float
    p: float
    effect: float
    pairs: int


def rank_biserial(difference: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): (W+ - W-) / (W+ + W-), -1 to 1; zero differences left out."""
    difference = difference[difference != 0]
    if not difference.size:
        return 0.0
    ranks = stats.rankdata(np.abs(difference))
    return float((ranks * np.sign(difference)).sum() / ranks.sum())


def compare(a: np.ndarray, b: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Comparison:
    """Compare paired values a and b, (n,) each: two-sided Wilcoxon signed-rank test, percentile bootstrap of the mean.

    With fewer than two pairs, or no difference at all, p is 1 and the interval is the difference itself. Where a value is
    NaN (of a training that failed), all is NaN.
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    mean = float(difference.mean())
    if math.isnan(mean):
        return Comparison(mean, mean, mean, mean, mean, difference.size)
    if difference.size < 2 or (np.ptp(difference) == 0 and mean == 0):
        return Comparison(mean, mean, mean, 1.0, rank_biserial(difference), difference.size)
    interval = stats.bootstrap(
        (difference,), np.mean, confidence_level=confidence, n_resamples=5000, method="percentile", rng=seed
    ).confidence_interval
    p = float(stats.wilcoxon(difference).pvalue)
    return Comparison(mean, float(interval.low), float(interval.high), p, rank_biserial(difference), difference.size)


def holm(p_values: list[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given; NaN, no test, stays NaN and isn't counted."""
    adjusted = np.array(p_values, dtype=np.float64)
    tested = ~np.isnan(adjusted)
    if tested.any():
        adjusted[tested] = multipletests(adjusted[tested], method="holm")[1]
    return adjusted
