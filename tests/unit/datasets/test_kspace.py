"""From k-space to images: what isn't k-space along its slices."""

import numpy as np
import pytest

from kdmri_lib.datasets.kspace import slice_images
from kdmri_lib.declarations import Dataset
from kdmri_lib.errors import StudyError
from tests.unit.deployment import scans

KNEE = Dataset(name="knee", source="knee_raw", folder="knee", shape=(48, 40), train=1, validation=1, test=1)


@pytest.mark.parametrize("slices", [range(16), range(3, 14)])  # as a source takes those in the middle
def test_slices_in_files_of_their_own_are_told_to_be_k_space_still(slices):
    image = scans.objects(16)[:, None] * (abs(np.arange(16) - 8) < 6)[:, None, None, None]
    still = np.fft.fftshift(np.fft.fftn(image, axes=(0, 2, 3)), axes=(0, 2, 3))
    with pytest.raises(StudyError, match="slice 8 is along the slices k-space still: most of it is in slice"):
        slice_images(KNEE, still.__getitem__, slices, "shifted", "slice {}".format)
    right = scans.FORMATS["fftshift(fft2)"](image)
    assert slice_images(KNEE, right.__getitem__, slices, "shifted", "slice {}".format).shape == (len(slices), 48, 40)
