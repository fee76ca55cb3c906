"""The prepared format as it is written: what is no image is refused, and nobody is in two splits."""

import h5py
import numpy as np
import pytest

from kdmri_lib.datasets.prepared import Volume, content_checksum, left_out, read_prepared, source_checksums
from kdmri_lib.datasets.writing import checked_volume, join_prepared, write_prepared
from kdmri_lib.errors import StudyError
from tests import downloads


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 4, 4)), "volume sick: all zero"),
        (np.ones((2, 4, 4)), "volume sick: the same value everywhere"),
        (np.full((2, 4, 4), np.nan), "volume sick: 32 values are NaN or infinite"),
        (-np.ones((2, 4, 4)), "volume sick: negative values"),
        (np.ones((0, 4, 4)), "volume sick: no slices"),
        (np.ones((2, 4, 4)) * 1j, "volume sick: values of type complex128, expected real numbers"),
        (np.ones((2, 4, 5)), r"volume sick: shape \(2, 4, 5\), expected \(slices, 4, 4\)"),
    ],
)
def test_volumes_that_are_no_images_are_refused(image, message):
    with pytest.raises(StudyError, match=message):
        checked_volume("sick", "train", image, {}, (4, 4))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 4, 4), complex), "volume sick: all zero"),
        (np.full((2, 4, 4), 1 - 1j), "volume sick: the same value everywhere"),
        (np.full((2, 4, 4), complex(0, np.nan)), "volume sick: 32 values are NaN or infinite"),
        (np.ones((2, 4, 4)), "volume sick: values of type float64, expected complex numbers"),
    ],
)
def test_volumes_that_are_no_complex_images_are_refused_where_such_are_declared(image, message):
    with pytest.raises(StudyError, match=message):
        checked_volume("sick", "train", image, {}, (4, 4), "complex")


def test_a_complex_volume_is_divided_by_the_maximum_of_its_magnitude():
    image = 250 * downloads.image(3) * np.exp(1j * downloads.image(4))
    volume = checked_volume("a", "train", image, {}, downloads.SHAPE, "complex")
    assert volume.image.dtype == np.complex64 and np.abs(volume.image).max() == pytest.approx(1)
    assert volume.attributes == {"scale": pytest.approx(np.abs(image).max())}
    np.testing.assert_allclose(volume.image, image / np.abs(image).max(), rtol=1e-5)


def test_a_volume_is_divided_by_its_maximum_which_is_kept():
    image = downloads.image(3)
    volume = checked_volume("a", "train", 250 * image, {"kind": "x"}, downloads.SHAPE)
    np.testing.assert_allclose(volume.image, downloads.normalised(image), rtol=1e-6)
    assert volume.image.dtype == np.float32 and volume.image.max() == 1
    assert volume.attributes == {"kind": "x", "scale": pytest.approx(250 * image.max())}


@pytest.mark.parametrize("what", ["person", "image"])
def test_a_person_or_an_image_in_two_splits_is_refused(tmp_path, what):
    both = (("a", "train"), ("b", "test"))
    volumes = [
        Volume(name, split, downloads.image(1 if what == "image" else n), {"person": "p" if what == "person" else name})
        for n, (name, split) in enumerate(both)
    ]
    with pytest.raises(StudyError, match=f"a in train and b in test are the same {what}"):
        write_prepared(tmp_path / "out.h5", "{}", "code", volumes)
    assert not list(tmp_path.iterdir())


def test_joined_files_hold_what_one_file_would(tmp_path):
    about = {"kind": "x", "sources": {"a.nii": "0" * 64}}
    volumes = [
        Volume(name, split, downloads.image(n), about) for n, (name, split) in enumerate(zip("abc", "tvt", strict=True))
    ]
    write_prepared(tmp_path / "whole.h5", "{}", "code", volumes)
    parts = [tmp_path / f"{volume.subject}.h5" for volume in volumes]
    for part, volume in zip(parts, volumes, strict=True):
        write_prepared(part, "{}", "code", [volume])
    join_prepared(tmp_path / "joined.h5", "{}", "code", parts, {"d": "broken"}, {"d": {"d.nii": "1" * 64}})
    assert content_checksum(tmp_path / "joined.h5") == content_checksum(tmp_path / "whole.h5")
    for one, other in zip(read_prepared(tmp_path / "joined.h5"), read_prepared(tmp_path / "whole.h5"), strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert (one.subject, one.split, one.attributes) == (other.subject, other.split, other.attributes)
    assert left_out(tmp_path / "joined.h5") == {"d": "broken"} and left_out(tmp_path / "whole.h5") == {}
    sources = source_checksums(tmp_path / "joined.h5")
    assert sources == source_checksums(tmp_path / "whole.h5") | {"d": {"d.nii": "1" * 64}}
    with h5py.File(tmp_path / "joined.h5") as file:
        assert file["volumes/c"].chunks == (1, *downloads.SHAPE)
