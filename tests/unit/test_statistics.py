"""Statistics against published tables and calculations by hand."""

import math

import numpy as np
import pytest

from kdmri_lib.statistics import compare, holm, rank_biserial


def test_where_a_seed_failed_there_is_no_mean_and_no_test():
    values = [30.0, 31.0, math.nan, 33.0]
    assert np.isnan(compare(np.array(values), np.zeros(4))[:5]).all()
    np.testing.assert_allclose(holm([0.01, math.nan, 0.2]), [0.02, math.nan, 0.2])


def test_wilcoxon_against_a_published_example():
    """Wilcoxon (1945), the paired example (Darwin's maize data as there): W- = 24, exact two-sided p = 0.0413."""
    crossed_minus_self = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])
    result = compare(crossed_minus_self, np.zeros(15))
    assert result.p == pytest.approx(0.0413, abs=5e-4)
    assert result.effect == pytest.approx((96 - 24) / 120)
    assert result.pairs == 15 and result.difference == pytest.approx(crossed_minus_self.mean())
    assert result.low < result.difference < result.high


def test_smallest_p_of_n_pairs_that_all_agree():
    assert compare(np.arange(1, 9), np.zeros(8)).p == pytest.approx(2 / 2**8)


def test_comparing_a_thing_with_itself():
    result = compare(np.ones(6), np.ones(6))
    assert (result.p, result.effect, result.difference, result.low, result.high) == (1, 0, 0, 0, 0)


def test_holm_by_hand():
    """Sorted p 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1, never falling."""
    np.testing.assert_allclose(holm([0.02, 0.01, 0.04, 0.03]), [0.06, 0.04, 0.06, 0.06])
    assert len(holm([])) == 0


def test_rank_biserial_bounds():
    assert rank_biserial(np.array([1.0, 2.0])) == 1
    assert rank_biserial(np.array([-1.0, -2.0])) == -1
    assert rank_biserial(np.array([1.0, -1.0])) == 0


def test_the_interval_is_that_of_the_mean_and_the_seed_fixes_it():
    """Against the normal approximation, which 400 pairs have come close to: mean plus and minus 1.96 standard errors."""
    difference = np.random.default_rng(0).normal(0.3, 1, 400)
    result = compare(difference, np.zeros(400))
    half = 1.96 * difference.std() / 20
    assert result.low == pytest.approx(difference.mean() - half, abs=0.01)
    assert result.high == pytest.approx(difference.mean() + half, abs=0.01)
    assert result == compare(difference, np.zeros(400)) != compare(difference, np.zeros(400), seed=1)


def test_one_pair_alone_says_nothing():
    result = compare(np.array([2.0]), np.array([1.5]))
    assert (result.p, result.difference, result.low, result.high, result.pairs) == (1, 0.5, 0.5, 0.5, 1)
