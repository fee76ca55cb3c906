"""Subjects of all organs in turn: a third of those who train, and all others, are the organ's own source's."""

import numpy as np
import pytest

from kdmri_lib.datasets.preparing import members, source
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError

SPLIT = {"train": 4, "validation": 1, "test": 1, "slices_per_volume": 2}
SOURCES = ["embedded_brain", "cardiac_phantom", "knee_phantom"]


def both(own: str, shape: tuple[int, int]) -> tuple[Dataset, Dataset]:
    """A data set of an organ's own source, and the same of every organ."""
    options = {"various": True, "strangers": 1}
    one = Dataset(name="x", source=own, shape=shape, options=options, **SPLIT)
    return one, one.model_copy(update={"source": "every_organ", "options": {**options, "organ": own}})


def image(dataset: Dataset, number: int, **how) -> np.ndarray:
    return source(dataset.source).make(dataset, number=number, **how)[0]


@pytest.mark.parametrize("own", SOURCES)
def test_a_third_of_those_who_train_and_all_others_are_the_organ_s_own(own):
    one, every = both(own, (48, 40))
    assert members(one) == members(every)
    for number in (1, 4, 5, 6):
        np.testing.assert_array_equal(image(every, number), image(one, number))
    np.testing.assert_array_equal(image(every, 7, snr=np.inf), image(one, 7, snr=np.inf))
    following = SOURCES[(SOURCES.index(own) + 1) % 3 :] + SOURCES
    for number, other in zip((2, 3), following, strict=False):
        about = source("every_organ").make(every, number=number)[1]
        assert other in about["origin"] and image(every, number).shape == (2, 48, 40)


def test_brains_keep_their_shape_on_a_knee_s_grid():
    _, every = both("knee_phantom", (48, 28))
    square = every.model_copy(update={"shape": (48, 48)})
    np.testing.assert_array_equal(image(every, 2), image(square, 2)[..., 10:38])


def test_it_says_which_organs_there_are():
    with pytest.raises(StudyError, match="option organ: embedded_brain, cardiac_phantom, knee_phantom"):
        members(Dataset(name="x", source="every_organ", shape=(8, 8), **SPLIT))
