"""Masks: the published ones and their rules, what is kept where, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.errors import StudyError
from kdmri_lib.masks import (
    FACTORS,
    GRIDS,
    PUBLISHED,
    cartesian_mask,
    check_mask,
    gaussian_mask_2d,
    line_axis,
    mirrored,
    published_mask,
    read_lines,
    truncation_mask,
    uniform_lines,
    unmirrored_share,
)

seeds = st.integers(0, 2**31)
NINE = [(name, factor) for name in GRIDS for factor in FACTORS]
# Kept lines, as counted in the published files.
COUNTS = {"cardiac": (37, 30, 18), "brain": (60, 48, 30), "knee": (94, 74, 50)}


def lines_of(mask):
    return mask[:, 0] if line_axis(mask) == 0 else mask[0]


@pytest.mark.parametrize(("name", "factor"), NINE)
def test_the_default_on_the_papers_grid_is_the_published_mask(name, factor):
    """Against the published list, read here on its own; 38 to 65% of its lines have a mirror line that isn't kept."""
    entry = json.loads(PUBLISHED.read_text(encoding="utf-8"))[f"{name}_{factor}x"]
    mask = published_mask(name, factor)
    assert mask.shape == GRIDS[name][0] == tuple(entry["shape"]) and line_axis(mask) == GRIDS[name][1]
    assert np.flatnonzero(lines_of(mask)).tolist() == entry["kept"]
    assert lines_of(mask).sum() == COUNTS[name][FACTORS.index(factor)]
    kept = {*entry["kept"]}
    without = sum(-line % lines_of(mask).size not in kept for line in kept) / len(kept)
    assert unmirrored_share(mask) == pytest.approx(without) and 0.375 < without < 0.655


@pytest.mark.parametrize("factor", FACTORS)
def test_the_knees_rule_is_the_one_that_gives_the_published_masks(factor):
    """fastMRI's random mask written out again: centre lines 170 to 198 of 368, others by chance."""
    drawn = np.random.RandomState(1).uniform(size=368) < (368 / factor - 29) / (368 - 29)
    drawn[170:199] = True
    for found in (uniform_lines(368, factor, 1), published_mask("knee", factor)[0]):
        np.testing.assert_array_equal(found, np.roll(drawn, -184))


@pytest.mark.parametrize(("name", "factor"), [key for key in NINE if key[0] != "knee"])
def test_the_other_rule_draws_masks_like_the_published_ones(name, factor):
    """How far out the published mask's outer lines lie (root mean square frequency) is usual among masks that it draws."""

    def spread(mask):
        size = mask.shape[0]
        frequency = np.abs(np.fft.fftfreq(size)[mask[:, 0]])
        return np.sqrt(np.mean(frequency[frequency * size > 5] ** 2))

    ours = [spread(published_mask(name, factor, seed=seed)) for seed in range(60)]
    assert np.quantile(ours, 0.005) <= spread(published_mask(name, factor)) <= max(ours)


def test_each_cell_draws_from_a_stream_of_its_own():
    drawn = [lines_of(published_mask(name, factor, (240, 240), seed=0)) for name in GRIDS for factor in (4, 4.5, 5)]
    for number, one in enumerate(drawn):
        assert all((one[: len(other)] != other).any() for other in drawn[number + 1 :])
    again = published_mask("brain", 4, seed=3)
    np.testing.assert_array_equal(again, published_mask("brain", 4, seed=3))
    assert (again != published_mask("brain", 4, seed=4)).any() and (again != published_mask("brain", 4)).any()


def test_a_mask_of_another_grid_keeps_its_axis_and_its_centres_share():
    mask = published_mask("knee", 4, (64, 92))
    assert line_axis(mask) == 1 and np.r_[mask[0, -3:], mask[0, :4]].all(), "29 of 368 lines are 7 of 92"
    assert published_mask("cardiac", 6)[:, 0].sum() == 150 // 6, "a factor that wasn't published"
    small = published_mask("brain", 4, (96, 96))[:, 0]
    assert small.sum() == 96 // 4 and small[[0, 1, -1, -2]].all(), "10 of 240 lines are 4 of 96"


MAKERS = (cartesian_mask, gaussian_mask_2d, truncation_mask)
GOOD = {"shape": [8, 6], "axis": 0, "kept": [0, 1, 3, 7]}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (GOOD, ""),
        ({**GOOD, "axis": 1, "kept": [0, 2, 5]}, ""),
        ({**GOOD, "shape": [6, 8]}, r"a grid of \(6, 8\), expected \(8, 6\)"),
        ({**GOOD, "kept": [0, 1, 1, 8]}, r"lines \[1, 8\] are there more than once, or aren't among 0 to 7"),
        ({**GOOD, "kept": [0, 7]}, r"2 of 8 lines, expected about 4; are lines missing\?"),
        ({**GOOD, "kept": [1, 2, 4, 6]}, "zero frequency isn't measured"),
        ({**GOOD, "kept": [0, 1.5, 3, 7]}, "a list of whole numbers"),
        ({**GOOD, "axis": 2}, "axis 0 or 1"),
        ({"shape": [8, 6], "kept": [0, 1, 3, 7]}, "without shape, axis and kept"),
        ([0, 1], "without shape, axis and kept"),
        (None, "not there"),
    ],
)
def test_lists_of_lines_of_ones_own_are_read_or_refused(tmp_path, entry, message):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"heart_2x": entry} if entry else {}))
    if message:
        with pytest.raises(StudyError, match=rf"mine.json, mask 'heart_2x': .*{message}"):
            read_lines(path, "heart", 2, (8, 6))
    else:
        mask = read_lines(path, "heart", 2, (8, 6))
        assert mask.shape == (8, 6) and line_axis(mask) == entry["axis"]
        assert np.flatnonzero(lines_of(mask)).tolist() == entry["kept"]


@settings(deadline=None)
@given(st.integers(24, 64), st.integers(24, 40), st.floats(1, 5), seeds)
def test_drawn_masks_keep_floor_of_all_over_acceleration_and_their_centre(height, width, acceleration, seed):
    lines = cartesian_mask((height, width), acceleration, centre=4, seed=seed)
    assert lines[:, 0].sum() == int(height // acceleration) and (lines == lines[:, :1]).all()
    points = gaussian_mask_2d((height, width), acceleration, centre=4, seed=seed)
    assert points.sum() == int(height * width // acceleration)
    assert all(mask[np.ix_([0, 1, -1, -2], [0, 1, -1, -2])].all() for mask in (lines, points))


@settings(deadline=None)
@given(st.integers(8, 33), st.integers(8, 33), st.sampled_from([2, 3, 4]))
def test_truncation_keeps_the_central_block_of_the_centred_k_space(height, width, factor):
    """Against cutting the block out of a centred spectrum and pasting it into zeros."""
    expected, (rows, columns) = np.zeros((height, width), bool), (height // factor, width // factor)
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    expected[top : top + rows, left : left + columns] = True
    np.testing.assert_array_equal(np.fft.fftshift(truncation_mask((height, width), factor)), expected)


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), seeds)
def test_the_mirrored_mask_holds_minus_k_for_every_k(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    expected = [[mask[-row % height, -column % width] for column in range(width)] for row in range(height)]
    np.testing.assert_array_equal(mirrored(mask), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *((lambda make=make: make((20, 20), 0.5), "acceleration 0.5 of .* expected 1 to") for make in MAKERS),
        *((lambda make=make: make((20, 20), 401), "acceleration 401 of .* expected 1 to") for make in MAKERS),
        (lambda: cartesian_mask((20, 20), float("nan")), "acceleration nan of 20 lines"),
        (lambda: gaussian_mask_2d((20, 20), 4, centre=10), "100 points at 4x leave nothing outside the 10x10 centre"),
        (lambda: published_mask("liver", 4), "no published mask for 'liver'; known: brain, cardiac, knee"),
        (lambda: published_mask("knee", 0.5), "acceleration 0.5 of 368 lines, expected 1 to 368"),
        (lambda: check_mask(np.ones((3, 4), bool), (4, 4)), r"shape \(3, 4\), expected \(4, 4\)"),
        (lambda: check_mask(np.zeros((4, 4), bool), (4, 4)), "keeps no line"),
        (lambda: check_mask(np.full((4, 4), np.nan), (4, 4)), "other than 0 and 1"),
    ],
)
def test_masks_that_cannot_be_are_refused(make, message):
    with pytest.raises(StudyError, match=message):
        make()
