"""Slices of one size: which are chosen, and how they are cropped or padded."""

import numpy as np
import pytest

from kdmri_lib.datasets.framing import framed, middle, padded, resampled
from kdmri_lib.errors import StudyError


def test_padding_and_cropping_keep_the_centre():
    image = np.arange(16.0).reshape(1, 4, 4)
    np.testing.assert_array_equal(padded(padded(image, (7, 6)), (4, 4)), image)
    np.testing.assert_array_equal(padded(image, (2, 6)), np.pad(image[:, 1:3], [(0, 0), (0, 0), (1, 1)]))


def test_slices_without_signal_are_not_chosen():
    volume = np.zeros((9, 4, 4), np.float32)
    volume[2:7] = np.arange(10, 15)[:, None, None]
    assert framed(volume, (4, 4), 3)[:, 0, 0].tolist() == [10, 12, 14]
    np.testing.assert_array_equal(framed(volume, (4, 4), None), volume)
    assert len(framed(volume, (4, 4), 7)) == 5, "no slice twice"


@pytest.mark.parametrize(
    ("count", "wanted", "chosen"), [(5, 3, [1, 2, 3]), (4, 2, [1, 2]), (3, None, [0, 1, 2]), (2, 9, [0, 1])]
)
def test_the_middle(count, wanted, chosen):
    assert list(middle(count, wanted)) == chosen


def test_resampling_keeps_the_field_of_view_and_smooth_content():
    def wave(y):
        return np.sin(y / 4)

    rows = np.arange(20) + 0.5  # mm, the pixels' centres
    volume = np.broadcast_to(wave(rows)[None, :, None], (2, 20, 10)).copy()
    new, spacing = resampled(volume, (8.0, 1.0, 2.0), 0.5)
    assert new.shape == (2, 40, 40) and spacing == (8.0, 0.5, 0.5)
    finer = (np.arange(40) + 0.5) / 2
    np.testing.assert_allclose(new[0, 8:-8, 5], wave(finer)[8:-8], atol=2e-3)  # the ends have no neighbours
    assert resampled(volume, (8.0, 1.0, 1.005), 1.0)[0] is volume, "within 1%"


@pytest.mark.parametrize("spacing", [(8, 1000, 1000), (8, 0, 1), (8, np.nan, 1), (8, 1, np.inf), (8, -1, 1)])
def test_pixels_that_can_not_be_are_refused_before_memory_is_asked_for(spacing):
    with pytest.raises(StudyError, match=r"pixels of .* resampled to 0.8 mm give slices of .*; expected 1 to 2048"):
        resampled(np.ones((2, 200, 100)), spacing, 0.8)


def test_what_splines_make_below_zero_is_none():
    edge = np.zeros((1, 20, 20))
    edge[:, 8:12, 8:12] = 100
    finer, _ = resampled(edge, (8, 1, 1), 0.7)
    assert finer.min() < 0 and framed(finer, (20, 20), None).min() == 0
