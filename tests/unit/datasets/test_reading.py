"""Other people's files: whatever is wrong with one is a message that names it."""

import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from kdmri_lib.datasets.preparing import prepare, source
from kdmri_lib.datasets.reading import as_complex, reading
from kdmri_lib.declarations import Degradation
from kdmri_lib.declared import declared_mask
from kdmri_lib.errors import StudyError
from tests import downloads


@contextmanager
def writing_elsewhere(path):
    """Another process has the HDF5 file open for writing while the block runs."""
    code = f"import h5py, sys; f = h5py.File({str(path)!r}, 'r+'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield
        process.stdin.close()


def test_a_file_that_may_not_be_read_and_one_that_is_being_written(tmp_path):
    downloads.fastmri(tmp_path)
    dataset = downloads.declared("fastmri", tmp_path, validation=2)
    with writing_elsewhere(tmp_path / "multicoil_train/file2.h5"):
        left_out = prepare(dataset, tmp_path / "out.h5", 1).left_out
    assert list(left_out) == ["file2"] and "file2.h5: another program has it open for writing" in left_out["file2"]
    locked = tmp_path / "multicoil_val/file4.h5"
    locked.chmod(0)
    before = os.geteuid()
    try:
        if before == 0:  # who may read everything
            os.seteuid(65534)
        with pytest.raises(StudyError, match=r"file4.h5: no permission to read it"):
            source("fastmri").make(dataset, file=str(locked))
    finally:
        os.seteuid(before)


def test_a_mask_of_ones_own(tmp_path):
    path = tmp_path / "mask.npy"
    dataset = downloads.declared("embedded_brain", tmp_path, shape=(120, 120), slices_per_volume=4)
    degradation = Degradation(acceleration=4, mask=str(path))
    with pytest.raises(StudyError, match=r"mask.npy: no such file"):
        declared_mask(dataset, degradation)
    mask = np.zeros((120, 120), np.uint8)
    mask[:30] = 1
    np.save(path, mask)
    np.testing.assert_array_equal(declared_mask(dataset, degradation), mask.astype(bool))
    np.save(path, mask[:50])
    with pytest.raises(StudyError, match=r"mask.npy: shape \(50, 120\), expected \(120, 120\)"):
        declared_mask(dataset, degradation)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StudyError, match=r"mask.npy: not a readable .npy mask"):
        declared_mask(dataset, degradation)


def test_a_lack_of_memory_is_not_the_files_fault(tmp_path):
    with pytest.raises(MemoryError), reading(tmp_path / "x", "file"):
        raise MemoryError
    with (
        pytest.raises(StudyError, match=r"x: not a readable file, or cut short \(odd\)"),
        reading(tmp_path / "x", "file"),
    ):
        raise ArithmeticError("odd")


def test_complex_numbers_of_either_kind(tmp_path):
    compound = np.array([(1.0, 2.0)], dtype=[("real", "<f8"), ("imag", "<f8")])
    for values in (compound, np.array([1 + 2j])):
        found = as_complex(values, tmp_path)
        assert found.dtype == np.complex64 and found.tolist() == [1 + 2j]


def test_a_link_to_nothing_says_where_it_leads(tmp_path):
    (tmp_path / "scan.nii").symlink_to(tmp_path / "archive" / "gone.nii")
    with (
        pytest.raises(StudyError, match=r"scan.nii: a link to .*archive/gone.nii, which isn't there; expected a file"),
        reading(tmp_path / "scan.nii", "file"),
    ):
        (tmp_path / "scan.nii").read_bytes()
    with pytest.raises(StudyError, match=r"none.nii: no such file"), reading(tmp_path / "none.nii", "file"):
        (tmp_path / "none.nii").read_bytes()
