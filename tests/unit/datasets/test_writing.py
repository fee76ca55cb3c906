"""The prepared format as it is written: what is no image is refused, and nobody is in two splits."""

import hashlib

import h5py
import numpy as np
import pytest

from kdmri_lib.datasets.prepared import Volume, left_out, preparing_code, read_prepared, source_checksums
from kdmri_lib.datasets.writing import checked_volume, write_prepared
from kdmri_lib.errors import StudyError
from tests import downloads


@pytest.mark.parametrize(
    ("image", "domain", "message"),
    [
        (np.zeros((2, 4, 4)), None, "all zero"),
        (np.ones((2, 4, 4)), None, "the same value everywhere"),
        (np.full((2, 4, 4), np.nan), None, "32 values are NaN or infinite"),
        (-np.ones((2, 4, 4)), None, "negative values"),
        (np.ones((0, 4, 4)), None, "no slices"),
        (np.ones((2, 4, 4)) * 1j, None, "values of type complex128, expected real numbers"),
        (np.ones((2, 4, 5)), None, r"shape \(2, 4, 5\), expected \(slices, 4, 4\)"),
        (np.zeros((2, 4, 4), complex), "complex", "all zero"),
        (np.full((2, 4, 4), 1 - 1j), "complex", "the same value everywhere"),
        (np.full((2, 4, 4), complex(0, np.nan)), "complex", "32 values are NaN or infinite"),
        (np.ones((2, 4, 4)), "complex", "values of type float64, expected complex numbers"),
    ],
)
def test_volumes_that_are_no_images_are_refused(image, domain, message):
    with pytest.raises(StudyError, match=f"volume sick: {message}"):
        checked_volume("sick", "train", image, {}, (4, 4), domain)


@pytest.mark.parametrize("domain", [None, "complex"])
def test_a_volume_is_divided_by_the_maximum_of_its_magnitude_which_is_kept(domain):
    image = 250 * downloads.image(3) * (np.exp(1j * downloads.image(4)) if domain else 1)
    volume = checked_volume("a", "train", image, {"kind": "x"}, downloads.SHAPE, domain)
    np.testing.assert_allclose(volume.image, image / np.abs(image).max(), rtol=1e-5)
    assert volume.image.dtype == (np.complex64 if domain else np.float32)
    assert np.abs(volume.image).max() == pytest.approx(1)
    assert volume.attributes == {"kind": "x", "scale": pytest.approx(np.abs(image).max())}


@pytest.mark.parametrize("what", ["person", "image"])
def test_a_person_or_an_image_in_two_splits_is_refused(tmp_path, what):
    volumes = [
        Volume(name, split, downloads.image(1 if what == "image" else n), {"person": "p" if what == "person" else name})
        for n, (name, split) in enumerate((("a", "train"), ("b", "test")))
    ]
    with pytest.raises(StudyError, match=f"a in train and b in test are the same {what}"):
        write_prepared(tmp_path / "out.h5", "{}", 1, volumes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 10_000])
def test_what_is_written_is_read_again_made_in_memory_or_on_the_disk(tmp_path, size):
    about = {"kind": "x", "sources": {"a.nii": "0" * 64}}
    splits = zip("abc", ("train", "validation", "train"), strict=True)
    volumes = [Volume(name, split, downloads.image(n), about) for n, (name, split) in enumerate(splits)]
    path, untried = tmp_path / "x.h5", {"d": {"d.nii": "1" * 64}}
    write_prepared(path, "{}", 3, volumes, {"d": "broken"}, untried, size)
    for volume, found in zip(volumes, read_prepared(path), strict=True):
        np.testing.assert_array_equal(found.image, volume.image)
        checksum = hashlib.sha256(volume.image.tobytes()).hexdigest()
        mean = pytest.approx(volume.image.mean(), abs=1e-6)
        assert (found.subject, found.split) == (volume.subject, volume.split)
        assert found.attributes == {"kind": "x", "mean": mean, "sha256": checksum}
    assert left_out(path) == {"d": "broken"} and preparing_code(path) == 3
    assert source_checksums(path) == dict.fromkeys("abc", about["sources"]) | untried
    with h5py.File(path) as file:
        assert file["volumes/c"].chunks == (1, *downloads.SHAPE)
