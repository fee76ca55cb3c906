"""The prepared format as it is read: what was written, split by split; and files that are damaged or of another kind."""

import h5py
import numpy as np
import pytest
import torch

from kdmri_lib.datasets import prepared
from kdmri_lib.datasets.prepared import Slices, Volume, content_checksum, preparing_code, read_prepared, splits
from kdmri_lib.datasets.writing import write_prepared
from kdmri_lib.errors import StudyError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.h5"
    first, second = np.random.default_rng(0).random((2, 3, 8, 6)).astype(np.float32)
    volumes = [Volume("a", "train", second, {"kind": "phantom"}), Volume("b", "test", first, {"kind": "phantom"})]
    write_prepared(path, "{}", 1, volumes)
    return path


def test_prepared_files_are_read_as_written(file):
    assert splits(file) == {"train": ["a"], "test": ["b"]}
    (volume,) = read_prepared(file, "test")
    assert volume.subject == "b" and volume.attributes["kind"] == "phantom"
    np.testing.assert_array_equal(volume.image, np.random.default_rng(0).random((3, 8, 6)).astype(np.float32))
    with h5py.File(file) as data:
        assert data["volumes/a"].chunks == (1, 8, 6)
    assert preparing_code(file) == 1 and len(content_checksum(file)) == 64


def test_slices_of_some_subjects_alone(tmp_path):
    path = tmp_path / "x.h5"
    images = np.random.default_rng(0).random((4, 3, 8, 6)).astype(np.float32)
    write_prepared(path, "{}", 1, [Volume(f"s{n}", "train", i, {"kind": "x"}) for n, i in enumerate(images)])
    some = Slices(path, "train", subjects=(1, 3))
    np.testing.assert_array_equal(some[list(range(6))].squeeze(1), images[1:3].reshape(6, 8, 6))
    assert some.names[0] == "s1 slice 0" and len(some) == 6
    assert [some.of_first(n) for n in (0, 1, 2)] == [0, 3, 6]
    with pytest.raises(StudyError, match="3 volumes with true images are asked for, of 2"):
        some.of_first(3)
    for subjects in ((2, 2), (0, 5)):
        with pytest.raises(StudyError, match=rf"x.h5: volumes {subjects[0]} to {subjects[1]} .* which has 4"):
            Slices(path, "train", subjects=subjects)


@pytest.mark.parametrize("size", [0, 100, 1000])
def test_a_prepared_file_cut_short_is_refused(file, size):
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(StudyError, match=r"x.h5: not a readable prepared file, or cut short"):
        list(read_prepared(file))


def test_other_bad_prepared_files(file, tmp_path):
    with pytest.raises(StudyError, match=r"none.h5: no such file"):
        list(read_prepared(tmp_path / "none.h5"))
    with pytest.raises(StudyError, match="no volume in split 'validation'"):
        list(read_prepared(file, "validation"))
    with h5py.File(file, "r+") as data:
        data["volumes/a"][0, 0, 0] += 1
    with pytest.raises(StudyError, match="volume a was altered"):
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


@pytest.mark.parametrize("held_bytes", [2**30, 0])
def test_complex_volumes_are_read_as_written_and_are_slices_of_two_channels(tmp_path, held_bytes):
    image = np.random.default_rng(2).standard_normal((3, 8, 6, 2)).astype(np.float32).view(np.complex64)[..., 0]
    image /= np.abs(image).max()
    write_prepared(tmp_path / "x.h5", "{}", 1, [Volume("a", "train", image, {"kind": "phantom"})])
    (volume,) = read_prepared(tmp_path / "x.h5")
    assert volume.image.dtype == np.complex64 and np.array_equal(volume.image, image)
    assert volume.attributes["mean"] == pytest.approx(np.abs(image).mean(), abs=1e-6)
    slices = Slices(tmp_path / "x.h5", "train", held_bytes)
    assert slices.shape == (3, 2, 8, 6) and slices[1].shape == (2, 8, 6)
    expected = np.stack([image.real, image.imag], axis=1)
    assert np.array_equal(slices[[2, 0]].numpy(), expected[[2, 0]])


@pytest.mark.parametrize("held_bytes", [2**30, 300, 0])
def test_slices_are_the_same_held_in_memory_or_read_from_the_file(tmp_path, held_bytes):
    images = np.random.default_rng(1).random((2, 3, 8, 6)).astype(np.float32)
    volumes = [Volume(name, "train", image, {}) for name, image in zip("ab", images, strict=True)]
    write_prepared(tmp_path / "x.h5", "{}", 1, volumes)
    slices = Slices(tmp_path / "x.h5", "train", held_bytes)
    assert slices.in_memory == (held_bytes > images.nbytes)
    assert slices.shape == (6, 1, 8, 6) and len(slices) == 6 and slices.names[4] == "b slice 1"
    everything = torch.from_numpy(images.reshape(6, 1, 8, 6))
    assert torch.equal(slices[[4, 0, 4]], everything[[4, 0, 4]]) and torch.equal(slices[5], everything[5])
