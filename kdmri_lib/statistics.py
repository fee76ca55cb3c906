"""Is a difference real, and would another seed find it again?

What varies is the seed, of teacher, student and controls together, and the person. An interval resamples both; a test over
seeds asks whether other trainings would come out the same, a test over people only whether these networks differ.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

FEW = 6  # seeds, or people, below which there is no test: of five pairs that all agree, p is 0.0625
MARGIN = 0.1  # dB within which two reconstructions count as equally good
RESAMPLES = 2000


class Comparison(NamedTuple):
    """Of paired values a and b, (seeds, people) each.

    Attributes
    ----------
    difference : mean of a - b.
    low, high : its interval, over seeds and people; over people alone where there is one seed; NaN where nothing varies.
    by_seed : the mean difference of each seed.
    p_seeds : two-sided t-test over the seeds' differences: of other trainings, on these people. NaN under six seeds.
    p_people : two-sided Wilcoxon signed-rank test over people, each the mean over seeds: of other people, on these
        networks. NaN under six people.
    effect : rank-biserial correlation over people.
    seeds, people : how many.
    """

    difference: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    p_seeds: float
    p_people: float
    effect: float
    seeds: int
    people: int


def rank_biserial(difference: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): (W+ - W-) / (W+ + W-), -1 to 1; zero differences left out."""
    difference = difference[difference != 0]
    if not difference.size:
        return 0.0
    ranks = stats.rankdata(np.abs(difference))
    return float((ranks * np.sign(difference)).sum() / ranks.sum())


def interval(difference: np.ndarray, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Confidence interval of the mean of (seeds, people) differences, by resampling seeds, then people.

    People are the same for every seed, and are resampled for all seeds together (Owen 2007, the pigeonhole bootstrap). Few
    of either make a bootstrap too narrow; the standard error is widened by n / (n - 1) and taken times Student's quantile
    (Hesterberg 2015), n the smaller of the two numbers, of those that vary. NaN where nothing does.
    """
    varying = [n for n in difference.shape if n > 1]
    if not varying or np.isnan(difference).any():
        return math.nan, math.nan
    rng, n = np.random.default_rng(seed), min(varying)
    weights = [rng.multinomial(size, np.full(size, 1 / size), RESAMPLES) / size for size in difference.shape]
    means = np.einsum("rs,sp,rp->r", weights[0], difference, weights[1])
    half = means.std() * math.sqrt(n / (n - 1)) * stats.t.ppf(0.5 + confidence / 2, n - 1)
    return float(difference.mean() - half), float(difference.mean() + half)


def common_spread_intervals(groups: Sequence[Sequence[float]], confidence: float = 0.95) -> list[tuple[float, float]]:
    """Confidence interval of each group's mean, such as of a cell's differences by seed, where the spread within groups is
    taken to be the same in all: analysis of variance with one factor, Student's t with the degrees of freedom of all.

    Two values say little of their own spread (t = 12.7), nine times two say more (t = 2.3), as far as the groups vary
    independently of each other; people aren't resampled. NaN for all where no group has two values.
    """
    values = [np.asarray(group, dtype=np.float64) for group in groups]
    freedom = sum(len(group) - 1 for group in values)
    if not freedom:
        return [(math.nan, math.nan)] * len(values)
    spread = math.sqrt(sum(((group - group.mean()) ** 2).sum() for group in values) / freedom)
    half = stats.t.ppf(0.5 + confidence / 2, freedom) * spread
    return [tuple(float(group.mean() + sign * half / math.sqrt(len(group))) for sign in (-1, 1)) for group in values]


def compare(a: np.ndarray, b: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Comparison:
    """Compare paired values a and b, (seeds, people) each. Where one is NaN (of a training that failed), all is NaN."""
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    by_seed, by_person = difference.mean(axis=1), difference.mean(axis=0)
    if np.isnan(difference).any():
        nothing = math.nan, math.nan, math.nan
        return Comparison(*nothing, tuple(by_seed.tolist()), *nothing, *difference.shape)
    low, high = interval(difference, confidence, seed)
    return Comparison(
        *(float(difference.mean()), low, high, tuple(by_seed.tolist())),
        _p(by_seed, lambda values: stats.ttest_1samp(values, 0).pvalue),
        _p(by_person, lambda values: stats.wilcoxon(values).pvalue),
        rank_biserial(by_person),
        *difference.shape,
    )


def _p(values: np.ndarray, test) -> float:
    """A test's p, 1 where there is no difference at all, NaN where there are too few values."""
    if len(values) < FEW:
        return math.nan
    return 1.0 if np.ptp(values) == 0 and values[0] == 0 else float(test(values))


def verdict(difference: float, low: float, high: float, seeds: int, p_seeds: float = math.nan) -> str:
    """What a comparison in dB says of other seeds and people, in a word.

    "equivalent" where the interval lies within `MARGIN`; "better" or "worse" where it leaves out 0 and the test over seeds,
    its `p_seeds` corrected, doesn't speak against it; "undecided" otherwise; "too few seeds" of one.
    """
    if math.isnan(difference):
        return "no result"
    if seeds < 2:
        return "too few seeds"
    if low > -MARGIN and high < MARGIN:
        return "equivalent"
    if p_seeds > 0.05 or low <= 0 <= high or math.isnan(low):
        return "undecided"
    return "better" if low > 0 else "worse"


def holm(p_values: list[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given; NaN, no test, stays NaN and isn't counted."""
    adjusted = np.array(p_values, dtype=np.float64)
    tested = ~np.isnan(adjusted)
    if tested.any():
        adjusted[tested] = multipletests(adjusted[tested], method="holm")[1]
    return adjusted
