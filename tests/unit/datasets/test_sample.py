"""The sample scan is what its code makes of the person that it names, and a person's head comes out of it."""

import h5py
import numpy as np

from kdmri_lib.datasets.sample import PATH, sample
from kdmri_lib.deployment.readers import open_volumes
from kdmri_lib.deployment.scan import Scan
from kdmri_lib.evaluation import psnr
from kdmri_lib.masks import published_mask


def test_the_committed_file_is_what_the_code_makes():
    image, kspace = sample()
    with h5py.File(PATH) as file:
        np.testing.assert_allclose(file["kspace"][:], kspace, atol=1e-5)
        assert "Louis Collins" in file.attrs["origin"]
    assert PATH.stat().st_size < 500_000 and (PATH.parent / "PROVENANCE.md").exists()
    with open_volumes(PATH, lines_axis=0) as (stored,):
        scan = Scan(stored)
        found = np.fft.ifft2(scan.read(0, 3)[:, 0], norm="ortho")
        np.testing.assert_array_equal(scan.lines, published_mask("brain", 4, (240, 240))[:, 0])
    zero_filled = np.fft.ifft2(np.fft.fft2(image) * published_mask("brain", 4, (240, 240)))
    assert psnr(np.abs(zero_filled), np.abs(found), 1.0) > 40  # but for the noise
