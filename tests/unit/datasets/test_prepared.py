"""The prepared format as it is read: what was written, split by split; and files that are damaged or of another kind."""

import h5py
import numpy as np
import pytest
import torch

from kdmri_lib.datasets import prepared
from kdmri_lib.datasets.prepared import Slices, Volume, read_prepared
from kdmri_lib.datasets.writing import write_prepared
from kdmri_lib.errors import StudyError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.h5"
    images = np.random.default_rng(0).random((2, 3, 8, 6)).astype(np.float32)
    write_prepared(
        path,
        "{}",
        1,
        [Volume(*about, image, {}) for about, image in zip((("a", "train"), ("b", "test")), images, strict=True)],
    )
    return path


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
