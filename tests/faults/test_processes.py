"""Several processes at a data set, or one that dies at it."""

import os

import pytest

from kdmri_lib.datasets.preparing import prepare
from kdmri_lib.errors import StudyError
from tests import downloads


def test_side_by_side_gives_the_same(tmp_path):
    downloads.nifti(tmp_path / "download")
    broken = tmp_path / "download/person1/scan.nii.gz"
    broken.write_bytes(broken.read_bytes()[:900])
    dataset = downloads.declared("nifti_folder", tmp_path / "download")
    one, two = (prepare(dataset, tmp_path / f"{jobs}.h5", 1, jobs) for jobs in (1, 2))
    assert one == two and set(one.left_out) == {"person1_scan"}
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_a_process_that_dies_is_said_and_what_was_made_is_kept(tmp_path, monkeypatch):
    """The processes find their files gone mad: a module of theirs ends them."""
    downloads.nifti(tmp_path / "download")
    dataset = downloads.declared("nifti_folder", tmp_path / "download")
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nfrom multiprocessing import process\n"
        "if 'spawn_main' in ' '.join(sys.orig_argv):\n    import nibabel\n    nibabel.load = lambda path: os._exit(1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(StudyError, match=r"a process that made volumes died .* fewer --jobs need less memory"):
        prepare(dataset, tmp_path / "out.h5", 1, jobs=2)
    assert not (tmp_path / "out.h5").exists() and (tmp_path / ".out.parts").is_dir()
    assert prepare(dataset, tmp_path / "out.h5", 1).made
