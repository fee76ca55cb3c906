"""Is a difference real, and would another seed find it again?

The seed, of teacher and student together, is the unit: a difference is the mean of the seeds' differences, each a mean over
the fixed test subjects, and its interval is Student's. Beside it stands the test that the paper does, over people, which
can't know of other trainings.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

FEW = 6  # seeds, or people, below which there is no interval and no test: of five pairs that all agree, p is 0.0625
MARGIN = 0.1  # dB within which two reconstructions count as equally good


class Comparison(NamedTuple):
    """Of paired values a and b, (seeds, people) each.

    Attributes
    ----------
    difference : mean of a - b.
    low, high : its 95% interval, Student's over the seeds; NaN under six of them.
    by_seed : the mean difference of each seed.
    p_seeds : two-sided t-test over the seeds' differences: of other trainings, on these people. NaN under six seeds.
    p_people : two-sided Wilcoxon signed-rank test over people, each the mean over seeds, as in the paper: of other people,
        on these networks. NaN under six people.
    seeds, people : how many.
    """

    difference: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    p_seeds: float
    p_people: float
    seeds: int
    people: int


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95% interval of the mean of values that vary by themselves, such as differences by seed; NaN under
    six values, or where one is NaN."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < FEW or np.isnan(values).any():
        return math.nan, math.nan
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def compare(a: np.ndarray, b: np.ndarray) -> Comparison:
    """Compare paired values a and b, (seeds, people) each. Where one is NaN (of a training that failed), so is the mean."""
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    by_seed, by_person = difference.mean(axis=1), difference.mean(axis=0)
    return Comparison(
        *(float(difference.mean()), *interval(by_seed), tuple(by_seed.tolist())),
        _p(by_seed, lambda values: scipy.stats.ttest_1samp(values, 0).pvalue),
        _p(by_person, lambda values: scipy.stats.wilcoxon(values).pvalue),
        *difference.shape,
    )


def _p(values: np.ndarray, test) -> float:
    """A test's p, 1 where there is no difference at all, NaN where there are too few values or one is NaN."""
    if len(values) < FEW or np.isnan(values).any():
        return math.nan
    return 1.0 if np.ptp(values) == 0 and values[0] == 0 else float(test(values))


def verdict(low: float, high: float, p_seeds: float = math.nan) -> str:
    """What a difference's interval in dB says of other trainings, in a word, empty where there is none: "equivalent" where
    it lies within `MARGIN`; "better" or "worse" where it leaves out 0 and the test over seeds, its `p_seeds` corrected,
    doesn't speak against it; "undecided" otherwise."""
    if math.isnan(low):
        return ""
    if low > -MARGIN and high < MARGIN:
        return "equivalent"
    if p_seeds > 0.05 or low <= 0 <= high:
        return "undecided"
    return "better" if low > 0 else "worse"


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given; NaN, no test, stays NaN and isn't counted."""
    adjusted = np.array(p_values, dtype=np.float64)
    order = adjusted.argsort(kind="stable")[: np.count_nonzero(~np.isnan(adjusted))]  # NaN stands last
    times = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(times * adjusted[order]), 1)
    return adjusted
