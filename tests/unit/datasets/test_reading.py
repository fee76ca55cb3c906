"""Other people's files: whatever is wrong with one is a message that names it."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.io

from kdmri_lib.datasets.matlab import read_mat
from kdmri_lib.datasets.preparing import prepare, source, survey
from kdmri_lib.datasets.reading import reading
from kdmri_lib.declarations import Undersampling
from kdmri_lib.declared import declared_mask
from kdmri_lib.errors import StudyError
from tests import downloads, trees


def test_a_file_that_may_not_be_read_and_one_that_is_being_written(tmp_path):
    downloads.fastmri(tmp_path)
    dataset, path = downloads.declared("fastmri", tmp_path, validation=2), tmp_path / "multicoil_train/file2.h5"
    code = f"import h5py, sys; f = h5py.File({str(path)!r}, 'r+'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        left_out = prepare(dataset, tmp_path / "out.h5").left_out
        process.stdin.close()
    assert list(left_out) == ["file2"] and "file2.h5: another program has it open for writing" in left_out["file2"]
    file = tmp_path / "multicoil_val/file4.h5"
    with trees.locked(file), pytest.raises(StudyError, match=r"file4.h5: no permission to read it"):
        source("fastmri").make(dataset, file=str(file))


def test_a_mask_of_ones_own(tmp_path):
    path = tmp_path / "mask.npy"
    dataset = downloads.declared("embedded_brain", tmp_path, shape=(120, 120), slices_per_volume=4)
    undersampling = Undersampling(acceleration=4, mask=str(path))
    mask = np.zeros((120, 120), np.uint8)
    mask[:30] = 1
    np.save(path, mask)
    np.testing.assert_array_equal(declared_mask(dataset, undersampling), mask.astype(bool))
    np.save(path, mask[:50])
    with pytest.raises(StudyError, match=r"mask.npy: shape \(50, 120\), expected \(120, 120\)"):
        declared_mask(dataset, undersampling)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StudyError, match=r"mask.npy: not a readable .npy mask"):
        declared_mask(dataset, undersampling)


def test_a_lack_of_memory_is_not_the_files_fault(tmp_path):
    with pytest.raises(MemoryError), reading(tmp_path / "x", "file"):
        raise MemoryError


def test_a_link_to_nothing_says_where_it_leads(tmp_path):
    (tmp_path / "scan.nii").symlink_to(tmp_path / "archive" / "gone.nii")
    message = r"scan.nii: a link to .*archive/gone.nii, which isn't there; expected a file"
    with pytest.raises(StudyError, match=message), reading(tmp_path / "scan.nii", "file"):
        (tmp_path / "scan.nii").read_bytes()
    with pytest.raises(StudyError, match=r"none.nii: no such file"), reading(tmp_path / "none.nii", "file"):
        (tmp_path / "none.nii").read_bytes()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler, to take locks away")
def test_a_file_system_without_locks_is_one_to_work_on(tmp_path):
    """As Lustre and NFS may be: prepared, and read back, as anywhere else."""
    source = "#include <errno.h>\nint flock(int fd, int how) { errno = ENOLCK; return -1; }\n"
    library = tmp_path / "nolock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-o", library, "-"], input=source, text=True, check=True)
    downloads.fastmri(tmp_path / "download")
    dataset = downloads.declared("fastmri", tmp_path / "download")
    program = """
import sys, pathlib
from kdmri_lib.datasets.prepared import Slices
from kdmri_lib.datasets.preparing import prepare
from kdmri_lib.declarations import Dataset
dataset, path = Dataset.model_validate_json(sys.argv[1]), pathlib.Path(sys.argv[2])
prepare(dataset, path)
print(len(Slices(path, "train", held_bytes=0)))
"""
    command = [sys.executable, "-c", program, dataset.model_dump_json(), tmp_path / "there.h5"]
    told = subprocess.run(command, env=os.environ | {"LD_PRELOAD": str(library)}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    prepare(dataset, tmp_path / "here.h5")
    assert (tmp_path / "there.h5").read_bytes() == (tmp_path / "here.h5").read_bytes()


def test_what_is_there_and_what_was_looked_for_is_said(tmp_path):
    downloads.knee(tmp_path, older=True)
    scipy.io.savemat(tmp_path / "x.mat", {"about": "a scan", "scan": np.ones((4, 4))})
    with pytest.raises(StudyError, match=r"x.mat: no array 'kspace'; it has about, scan"):
        read_mat(tmp_path / "x.mat", "kspace", alone=True)
    message = r"0 subjects found: no <subject>/rawdataN.mat in it, .* contrast 't1'; folders .*: coronal_pd$"
    with pytest.raises(StudyError, match=message):
        survey(downloads.declared("knee_matlab", tmp_path))
