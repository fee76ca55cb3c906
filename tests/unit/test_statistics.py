"""Statistics against published tables, calculations by hand, and data drawn from a known model."""

import math

import numpy as np
import pytest

from kdmri_lib.statistics import compare, holm, interval, verdict


def drawn(rng, seeds, people, seed_sd, person_sd):
    """Differences (seeds, people) whose seed and person vary by so much, and the rest by 0.05."""
    parts = (rng.normal(0, seed_sd, (seeds, 1)), rng.normal(0, person_sd, (1, people)))
    return sum(parts) + rng.normal(0, 0.05, (seeds, people))


def compared(difference):
    return compare(difference, np.zeros_like(difference))


def test_the_interval_and_the_tests_by_hand():
    """Seeds 1 to 6: mean 3.5, standard error 1.8708 / sqrt 6 = 0.7638, t = 4.5826; at 5 degrees 2.5706 is 95%. Eight people
    that all agree, whichever way each of the seeds does."""
    found = compared(np.arange(1.0, 7.0)[:, None] + np.array([0.5, -1, 1, -2, 2, -2.9, 2.9, -0.5]))
    assert (found.low, found.high) == pytest.approx((3.5 - 2.5706 * 0.7638, 3.5 + 2.5706 * 0.7638), abs=1e-3)
    assert found.p_seeds == pytest.approx(0.00593, abs=1e-5) and found.p_people == pytest.approx(2 / 2**8)
    assert found.by_seed == pytest.approx(range(1, 7)) and found.difference == pytest.approx(3.5)
    assert (found.seeds, found.people) == (6, 8)
    assert interval(range(1, 7)) == pytest.approx((found.low, found.high))


def test_the_interval_covers_the_truth_and_the_test_errs_as_often_as_they_say_where_seeds_vary():
    """95% and 5%, within what 600 trials can tell; the test over people doesn't know of seeds and errs far more."""
    rng = np.random.default_rng(2)
    found = [compared(drawn(rng, 6, 12, 0.1, 0.02)) for _ in range(600)]
    assert 0.93 < np.mean([c.low <= 0 <= c.high for c in found]) < 0.97
    assert 0.03 < np.mean([c.p_seeds < 0.05 for c in found]) < 0.07
    assert np.mean([c.p_people < 0.05 for c in found]) > 0.3


def test_under_six_seeds_there_is_a_difference_and_no_interval_and_under_six_people_no_test():
    found = compared(np.arange(1.0, 6.0)[None] + np.arange(5.0)[:, None])
    assert found.difference == 5 and found.by_seed == (3, 4, 5, 6, 7)
    assert np.isnan([found.low, found.high, found.p_seeds, found.p_people]).all()
    assert not math.isnan(compared(np.arange(1.0, 7.0)[None] + np.arange(5.0)[:, None]).p_people)


def test_where_a_seed_failed_there_is_no_mean_and_no_test():
    values = np.full((6, 7), 30.0)
    values[2] = math.nan
    found = compare(values, np.zeros((6, 7)))
    assert np.isnan([found.difference, found.low, found.high, found.p_seeds, found.p_people]).all()
    assert math.isnan(found.by_seed[2]) and found.by_seed[0] == 30


def test_wilcoxon_against_a_published_example():
    """Wilcoxon (1945), the paired example (Darwin's maize data as there): W- = 24, exact two-sided p = 0.0413."""
    crossed_minus_self = np.array([[49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]])
    assert compared(crossed_minus_self).p_people == pytest.approx(0.0413, abs=5e-4)


def test_comparing_a_thing_with_itself():
    found = compare(np.ones((6, 6)), np.ones((6, 6)))
    assert (found.p_seeds, found.p_people, found.difference, found.low, found.high) == (1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ((0.2, 0.4, 0.01), "better"),
        ((-0.4, -0.2, 0.01), "worse"),
        ((0.2, 0.4, 0.06), "undecided"),
        ((0.2, 0.4), "better"),
        ((0.01, 0.05, 0.001), "equivalent"),
        ((-0.02, 0.11, 0.2), "undecided"),
        ((-0.09, 0.09), "equivalent"),
        ((math.nan, math.nan), ""),
    ],
)
def test_verdicts_in_words(given, word):
    assert verdict(*given) == word


def test_holm_by_hand():
    """Sorted p 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1, never falling; what is no test isn't counted."""
    np.testing.assert_allclose(holm([0.02, 0.01, 0.04, 0.03]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.01, math.nan, 0.2]), [0.02, math.nan, 0.2])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1, 1])
    assert len(holm([])) == 0
