"""Statistics against published tables, calculations by hand, and data drawn from a known model."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS

from kdmri_lib.statistics import common_spread_intervals, compare, holm, interval, rank_biserial, verdict


def drawn(rng, seeds, people, seed_sd, person_sd, rest_sd=0.05, mean=0.0):
    """Differences (seeds, people) whose seed, person and rest vary by so much."""
    parts = (
        rng.normal(0, seed_sd, (seeds, 1)),
        rng.normal(0, person_sd, (1, people)),
        rng.normal(0, rest_sd, (seeds, people)),
    )
    return mean + sum(parts)


def compared(difference):
    return compare(difference, np.zeros_like(difference))


@pytest.mark.parametrize(
    ("seeds", "people", "seed_sd", "person_sd"),
    [(6, 12, 0.1, 0.1), (6, 12, 0.1, 0.0), (6, 9, 0.0, 0.3), (3, 12, 0.1, 0.1), (2, 12, 0.1, 0.1), (1, 9, 0.0, 0.1)],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds, people, seed_sd, person_sd):
    """At least 95%, within what 300 trials can tell (93%: two standard errors), whichever of the two varies."""
    rng, trials = np.random.default_rng(1), 300
    rest = 0.05 if seeds > 1 else 0
    covered = [
        low <= 0.2 <= high
        for low, high in (
            interval(drawn(rng, seeds, people, seed_sd, person_sd, rest, 0.2), seed=n) for n in range(trials)
        )
    ]
    assert np.mean(covered) > 0.93


def test_the_interval_is_not_wider_than_what_varies_makes_it():
    """Six seeds alone vary: half as wide as Student's interval of six says, but for chance and the rest's share."""
    rng = np.random.default_rng(0)
    widths, exact = [], []
    for n in range(40):
        difference = drawn(rng, 6, 12, 0.1, 0.0, 0.01)
        low, high = interval(difference, seed=n)
        widths.append(high - low)
        exact.append(2 * stats.t.ppf(0.975, 5) * difference.mean(axis=1).std(ddof=1) / math.sqrt(6))
    assert np.mean(widths) == pytest.approx(np.mean(exact), rel=0.05)


def test_the_test_over_seeds_errs_as_often_as_it_says_where_seeds_vary():
    """5% of the time, within what 600 trials can tell; the test over people doesn't know of seeds and errs far more."""
    rng = np.random.default_rng(2)
    found = [compared(drawn(rng, 6, 12, 0.1, 0.02)) for _ in range(600)]
    assert 0.03 < np.mean([c.p_seeds < 0.05 for c in found]) < 0.07
    assert np.mean([c.p_people < 0.05 for c in found]) > 0.3


def test_the_test_over_people_errs_as_often_as_it_says_where_people_alone_vary():
    rng = np.random.default_rng(3)
    found = [compared(drawn(rng, 1, 9, 0, 0.2)) for _ in range(600)]
    assert 0.025 < np.mean([c.p_people < 0.05 for c in found]) < 0.07


def test_verdicts_rarely_call_nothing_something_and_find_what_is_there():
    """Of 150 comparisons of equals over six seeds few are better or worse; a lead of 0.4 dB is found nearly always."""

    def of(mean, rng):
        found = compared(drawn(rng, 6, 12, 0.1, 0.1, mean=mean))
        return verdict(found.difference, found.low, found.high, found.seeds, found.p_seeds)

    rng = np.random.default_rng(4)
    assert np.mean([of(0, rng) in ("better", "worse") for _ in range(150)]) < 0.05
    assert np.mean([of(0.4, rng) == "better" for _ in range(150)]) > 0.95


def test_two_seeds_that_disagree_decide_nothing():
    """As measured once: +0.200 in one seed, -0.015 in the other, each the same in all twelve volumes but for a little."""
    rng = np.random.default_rng(0)
    found = compared(np.array([[-0.015], [0.2]]) + rng.normal(0, 0.03, (2, 12)))
    assert found.low < 0 < found.high and math.isnan(found.p_seeds) and found.p_people < 0.05
    assert verdict(found.difference, found.low, found.high, found.seeds, found.p_seeds) == "undecided"
    assert found.by_seed == pytest.approx((-0.015, 0.2), abs=0.03)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ((0.3, 0.2, 0.4, 6, 0.01), "better"),
        ((-0.3, -0.4, -0.2, 6, 0.01), "worse"),
        ((0.3, 0.2, 0.4, 6, 0.06), "undecided"),
        ((0.3, 0.2, 0.4, 3, math.nan), "better"),
        ((0.03, 0.01, 0.05, 6, 0.001), "equivalent"),
        ((0.03, -0.02, 0.11, 6, 0.2), "undecided"),
        ((0.0, -0.09, 0.09, 2, math.nan), "equivalent"),
        ((0.3, 0.2, 0.4, 1, math.nan), "too few seeds"),
        ((math.nan, math.nan, math.nan, 6, math.nan), "no result"),
        ((0.3, math.nan, math.nan, 6, 0.01), "undecided"),
    ],
)
def test_verdicts_in_words(given, word):
    assert verdict(*given) == word


def test_where_a_seed_failed_there_is_no_mean_and_no_test():
    values = np.full((6, 7), 30.0)
    values[2] = math.nan
    found = compare(values, np.zeros((6, 7)))
    assert np.isnan([found.difference, found.low, found.high, found.p_seeds, found.p_people, found.effect]).all()
    assert math.isnan(found.by_seed[2]) and found.by_seed[0] == 30
    np.testing.assert_allclose(holm([0.01, math.nan, 0.2]), [0.02, math.nan, 0.2])


def test_wilcoxon_against_a_published_example():
    """Wilcoxon (1945), the paired example (Darwin's maize data as there): W- = 24, exact two-sided p = 0.0413."""
    crossed_minus_self = np.array([[49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]])
    result = compared(crossed_minus_self)
    assert result.p_people == pytest.approx(0.0413, abs=5e-4)
    assert result.effect == pytest.approx((96 - 24) / 120)
    assert (result.seeds, result.people) == (1, 15) and result.difference == pytest.approx(crossed_minus_self.mean())
    assert result.low < result.difference < result.high


def test_students_test_by_hand():
    """Seeds 1 to 6: mean 3.5, standard error 1.8708 / sqrt 6 = 0.7638, t = 4.5826, two-sided p at 5 degrees 0.00593."""
    result = compared(np.arange(1.0, 7.0)[:, None])
    assert result.p_seeds == pytest.approx(0.00593, abs=1e-5)


def test_smallest_p_of_n_people_that_all_agree():
    assert compared(np.arange(1.0, 9.0)[None]).p_people == pytest.approx(2 / 2**8)


def test_five_are_too_few_for_a_test():
    found = compared(np.arange(1.0, 6.0)[None] + np.arange(5.0)[:, None])
    assert math.isnan(found.p_seeds) and math.isnan(found.p_people)


def test_comparing_a_thing_with_itself():
    result = compare(np.ones((6, 6)), np.ones((6, 6)))
    assert (result.p_seeds, result.p_people, result.effect) == (1, 1, 0)
    assert (result.difference, result.low, result.high) == (0, 0, 0)


def test_one_pair_alone_says_nothing():
    result = compare(np.array([[2.0]]), np.array([[1.5]]))
    assert result.difference == 0.5 and np.isnan([result.low, result.high, result.p_seeds, result.p_people]).all()


def test_the_interval_of_one_seed_is_that_of_the_mean_over_people_and_a_seed_fixes_it():
    """Against Student's interval of 400 people, within what resampling leaves to chance."""
    difference = np.random.default_rng(0).normal(0.3, 1, (1, 400))
    low, high = interval(difference)
    half = stats.t.ppf(0.975, 399) * difference.std(ddof=1) / 20
    assert low == pytest.approx(difference.mean() - half, abs=0.01)
    assert high == pytest.approx(difference.mean() + half, abs=0.01)
    assert (low, high) == interval(difference) != interval(difference, seed=1)


def test_holm_by_hand():
    """Sorted p 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1, never falling."""
    np.testing.assert_allclose(holm([0.02, 0.01, 0.04, 0.03]), [0.06, 0.04, 0.06, 0.06])
    assert len(holm([])) == 0


def test_rank_biserial_bounds():
    assert rank_biserial(np.array([1.0, 2.0])) == 1
    assert rank_biserial(np.array([-1.0, -2.0])) == -1
    assert rank_biserial(np.array([1.0, -1.0])) == 0


def test_intervals_by_common_spread_are_those_of_an_analysis_of_variance():
    """Groups of several sizes, against least squares with a mean per group."""
    rng = np.random.default_rng(5)
    groups = [rng.normal(mean, 0.1, size) for mean, size in ((0.1, 2), (-0.3, 4), (0.0, 1), (0.2, 2))]
    value, group = np.concatenate(groups), np.repeat(range(len(groups)), [len(g) for g in groups])
    fitted = OLS(value, group[:, None] == np.arange(len(groups))).fit()
    assert np.allclose(common_spread_intervals(groups), fitted.conf_int(0.05))
    assert np.allclose(common_spread_intervals(groups, 0.5), fitted.conf_int(0.5))


def test_intervals_by_common_spread_of_one_group_are_students_and_of_single_values_none():
    low, high = common_spread_intervals([[0.1, 0.3]])[0]
    assert (low, high) == (pytest.approx(0.2 - 12.706 * 0.1, abs=1e-3), pytest.approx(0.2 + 12.706 * 0.1, abs=1e-3))
    assert np.isnan(common_spread_intervals([[0.1], [0.2]])).all()
    assert common_spread_intervals([]) == []


def test_intervals_by_common_spread_cover_as_often_as_they_say_where_groups_vary_alike():
    rng = np.random.default_rng(6)
    found = np.array([common_spread_intervals(0.2 + rng.normal(0, 0.1, (9, 2))) for _ in range(300)])
    covered = (found[..., 0] <= 0.2) & (found[..., 1] >= 0.2)
    assert 0.93 < covered.mean() < 0.97
