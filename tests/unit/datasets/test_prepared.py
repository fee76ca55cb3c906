"""The prepared format: what is no image is refused, nobody is in two splits, what was written is read; damaged files."""

import hashlib

import h5py
import numpy as np
import pytest
import torch

from kdmri_lib.datasets import prepared
from kdmri_lib.datasets.prepared import Slices, Volume, checked_volume, read_prepared, write_prepared
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
    write_prepared(path, "{}", 3, volumes, {"d": ("broken", untried["d"])}, size)
    for volume, found in zip(volumes, read_prepared(path), strict=True):
        np.testing.assert_array_equal(found.image, volume.image)
        checksum = hashlib.sha256(volume.image.tobytes()).hexdigest()
        mean = pytest.approx(volume.image.mean(), abs=1e-6)
        assert (found.subject, found.split) == (volume.subject, volume.split)
        assert found.attributes == {"kind": "x", "mean": mean, "sha256": checksum}
    assert prepared.left_out(path) == {"d": "broken"} and prepared.attribute(path, "code") == 3
    assert prepared.source_checksums(path) == dict.fromkeys("abc", about["sources"]) | untried
    with h5py.File(path) as file:
        assert file["volumes/c"].chunks == (1, *downloads.SHAPE)


def test_bad_prepared_files(tmp_path):
    file = tmp_path / "x.h5"
    volumes = [Volume(name, split, downloads.image(ord(name)), {}) for name, split in (("a", "train"), ("b", "test"))]
    write_prepared(file, "{}", 1, volumes)
    with pytest.raises(StudyError, match=r"none.h5: no such file"):
        list(read_prepared(tmp_path / "none.h5"))
    with pytest.raises(StudyError, match="no volume in split 'validation'"):
        list(read_prepared(file, "validation"))
    with h5py.File(file, "r+") as data:
        data["volumes/a"][0, 0, 0] += 1
    with pytest.raises(StudyError, match="volume a was altered"):
        list(read_prepared(file))
    for size in (1000, 0):
        file.write_bytes(file.read_bytes()[:size])
        with pytest.raises(StudyError, match=r"x.h5: not a readable prepared file, or cut short"):
            list(read_prepared(file))
    with h5py.File(tmp_path / "other.h5", "w") as data:
        data["x"] = 1
    with pytest.raises(StudyError, match="format None, expected 'kdmri-prepared-1'"):
        list(read_prepared(tmp_path / "other.h5"))


def test_the_volumes_that_test_are_all_but_those_that_train_and_validate(tmp_path):
    names = ("train", "validation", "test", "template")
    volumes = [Volume(name[:3], name, np.full((1, 2, 2), n + 0.5, np.float32), {}) for n, name in enumerate(names)]
    write_prepared(tmp_path / "x.h5", "{}", 1, volumes)
    assert sorted(v.split for v in prepared.test_volumes(tmp_path / "x.h5")) == ["template", "test"]


@pytest.mark.parametrize("domain", ["magnitude", "complex"])
@pytest.mark.parametrize("held_bytes", [2**30, 1000, 0])
def test_slices_are_the_same_held_in_memory_or_read_from_the_file(tmp_path, held_bytes, domain):
    """Complex ones have two channels."""
    images = np.random.default_rng(1).random((4, 3, 8, 6)).astype(np.float32)
    images = images * np.exp(1j * images).astype(np.complex64) if domain == "complex" else images
    everything = np.stack([images.real, images.imag] if domain == "complex" else [images], axis=2)
    everything = torch.from_numpy(everything.reshape(12, -1, 8, 6))
    path = tmp_path / "x.h5"
    write_prepared(path, "{}", 1, [Volume(f"s{n}", "train", image, {}) for n, image in enumerate(images)])
    slices, some = Slices(path, "train", held_bytes), Slices(path, "train", held_bytes, subjects=(1, 3))
    assert slices.in_memory == (held_bytes > images.nbytes) and slices.shape == everything.shape
    assert len(slices) == 12 and slices.names[4] == "s1 slice 1"
    assert torch.equal(slices[[4, 0, 4]], everything[[4, 0, 4]]) and torch.equal(slices[5], everything[5])
    assert torch.equal(some[list(range(6))], everything[3:9]) and some.names[0] == "s1 slice 0" and len(some) == 6
    assert [some.of_first(n) for n in (0, 1, 2)] == [0, 3, 6]
    with pytest.raises(StudyError, match="3 volumes with true images are asked for, of 2"):
        some.of_first(3)
    for subjects in ((2, 2), (0, 5)):
        with pytest.raises(StudyError, match=rf"x.h5: volumes {subjects[0]} to {subjects[1]} .* which has 4"):
            Slices(path, "train", subjects=subjects)
