"""Masks: the published line counts, what is kept where, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.errors import StudyError
from kdmri_lib.masks import (
    PUBLISHED_LINES,
    cartesian_mask,
    check_mask,
    gaussian_lines,
    gaussian_mask_2d,
    line_axis,
    mirrored,
    published_mask,
    truncation_mask,
    unmirrored_share,
)

seeds = st.integers(0, 2**31)


@pytest.mark.parametrize(("key", "count"), PUBLISHED_LINES.items())
def test_published_masks_have_the_papers_lines(key, count):
    mask = published_mask(*key)
    assert mask.shape == count.shape
    assert line_axis(mask) == count.axis
    lines = mask[:, 0] if count.axis == 0 else mask[0]
    assert lines.sum() == count.kept
    block = np.r_[lines[-(count.centre // 2) :], lines[: count.centre - count.centre // 2]]
    assert block.all(), "the centre block around index 0 is contiguous"
    # The same seed gives the same mask, another seed another one.
    np.testing.assert_array_equal(mask, published_mask(*key))
    assert (mask != published_mask(*key, seed=1)).any()


def test_published_masks_leave_mirror_lines_out_as_stated():
    """38 to 65% of the kept lines have a mirror line that isn't kept, in the published masks; ours are drawn alike."""
    shares = [unmirrored_share(published_mask(*key)) for key in PUBLISHED_LINES]
    assert 0.25 < min(shares) <= max(shares) < 0.75


def test_a_published_mask_on_another_grid_keeps_its_axis_and_its_centres_share():
    mask = published_mask("knee", 4, (64, 92))
    assert line_axis(mask) == 1 and mask[0].sum() == 92 // 4
    assert np.r_[mask[0, -3:], mask[0, :4]].all(), "29 of 368 lines are 7 of 92"
    assert published_mask("cardiac", 6)[:, 0].sum() == 150 // 6, "a factor that wasn't published"


@settings(deadline=None)
@given(st.integers(16, 64), st.floats(1, 8), seeds)
def test_cartesian_mask_keeps_floor_of_n_over_acceleration(size, acceleration, seed):
    mask = cartesian_mask((size, 5), acceleration, centre=2, seed=seed)
    assert mask[:, 0].sum() == int(size // acceleration)
    assert (mask == mask[:, :1]).all()


@settings(deadline=None)
@given(st.integers(24, 40), st.integers(24, 40), st.floats(1, 5), seeds)
def test_gaussian_mask_keeps_its_points_and_the_centre(height, width, acceleration, seed):
    mask = gaussian_mask_2d((height, width), acceleration, centre=4, seed=seed)
    assert mask.sum() == int(height * width // acceleration)
    assert mask[:2, :2].all() and mask[-2:, -2:].all()


@settings(deadline=None)
@given(st.integers(8, 33), st.integers(8, 33), st.sampled_from([2, 3, 4]))
def test_truncation_keeps_the_central_block_of_the_centred_k_space(height, width, factor):
    """Against cutting the block out of a centred spectrum and pasting it into zeros, index by index."""
    centred_mask = np.zeros((height, width), bool)
    kept = (height // factor, width // factor)
    for row in range(kept[0]):
        for column in range(kept[1]):
            centred_mask[height // 2 - kept[0] // 2 + row, width // 2 - kept[1] // 2 + column] = True
    np.testing.assert_array_equal(np.fft.fftshift(truncation_mask((height, width), factor)), centred_mask)


def test_truncation_of_the_papers_grid():
    mask = truncation_mask((256, 256), 4)
    assert mask.sum() == 64 * 64 and mask[0, 0] and mask[32 - 1, 32 - 1] and mask[-32, -32] and not mask[32, 0]


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), seeds)
def test_the_mirrored_mask_holds_minus_k_for_every_k(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    expected = [[mask[-row % height, -column % width] for column in range(width)] for row in range(height)]
    np.testing.assert_array_equal(mirrored(mask), expected)


def test_the_share_without_a_mirror_point_by_hand():
    """Of rows 0, 1 and 2 of 6, the first is its own mirror and rows 5 and 4 aren't kept."""
    mask = np.zeros((6, 4), bool)
    mask[:3] = True
    assert unmirrored_share(mask) == pytest.approx(2 / 3)


def test_a_masks_axis_is_the_one_that_it_varies_on_and_points_have_none():
    rows = cartesian_mask((12, 8), 2, centre=2)
    assert line_axis(rows) == 0 and line_axis(cartesian_mask((12, 8), 2, axis=1, centre=2)) == 1
    rows[3, 3] = not rows[3, 3]
    assert line_axis(rows) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda a: cartesian_mask((20, 20), a),
        lambda a: gaussian_mask_2d((20, 20), a),
        lambda a: truncation_mask((20, 20), a),
        lambda a: published_mask("brain", a),
    ],
)
@pytest.mark.parametrize("acceleration", [0.5, 0, -2, float("nan")])
def test_acceleration_below_one_is_refused(make, acceleration):
    with pytest.raises(StudyError, match=r"acceleration .* at least 1"):
        make(acceleration)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cartesian_mask((20, 20), 30), "0 of 20 lines kept; expected 1 to 20"),
        (lambda: cartesian_mask((20, 20), 2, lines=21), "21 of 20 lines kept"),
        (lambda: gaussian_lines(20, 4, 5, np.random.default_rng(0)), "centre block of 5 lines exceeds the 4 lines"),
        (lambda: gaussian_mask_2d((20, 20), 4, centre=10), "100 points at 4x leave nothing outside the 10x10 centre"),
        (lambda: truncation_mask((20, 20), 21), "truncation to a 21th: keeps no line"),
        (lambda: published_mask("liver", 4), "no published mask for 'liver'; known: brain, cardiac, knee"),
    ],
)
def test_masks_that_cannot_be_are_refused(make, message):
    with pytest.raises(StudyError, match=message):
        make()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((3, 4), bool), r"shape \(3, 4\), expected \(4, 4\)"),
        (np.zeros((4, 4), bool), "keeps no line"),
        (np.full((4, 4), 0.5), "other than 0 and 1"),
        (np.full((4, 4), np.nan), "other than 0 and 1"),
    ],
)
def test_bad_masks_are_refused(mask, message):
    with pytest.raises(StudyError, match=message):
        check_mask(mask, (4, 4))


def test_a_mask_of_numbers_becomes_boolean():
    np.testing.assert_array_equal(check_mask(np.eye(4, dtype=np.uint8), (4, 4)), np.eye(4, dtype=bool))
