"""Files emptied, cut and with a bit flipped, processes that die: each is named, none is used, what can be is made again.

Of evidence: `tests/unit/study/test_evidence.py`; of checkpoints: `tests/unit/test_training.py`; any damage: `test_fuzz.py`.
"""

import os

import h5py
import pytest

from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.datasets.preparing import prepare
from kdmri_lib.errors import StudyError
from kdmri_study.runs import CURVE, SLICES, VOLUMES, WEIGHTS, RunFolder, trained
from tests import downloads
from tests.studies import digests, runs_of


def flipped(content: bytes, place: int | None = None) -> bytes:
    place = len(content) // 2 if place is None else place
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


@pytest.mark.parametrize("damaged", [lambda content: b"", lambda content: content[: len(content) // 2], flipped])
def test_a_damaged_file_of_a_run_is_named_and_the_run_made_again(finished_copy, damaged):
    run = runs_of(finished_copy)["student"]
    path = RunFolder(finished_copy, run).path
    right = digests(path, CURVE, VOLUMES, SLICES, WEIGHTS)
    assert len(right) == 4
    for name in (CURVE, VOLUMES, SLICES, WEIGHTS, "run.json"):
        whole = (path / name).read_bytes()
        (path / name).write_bytes(damaged(whole))
        state = RunFolder(finished_copy, run).state()
        assert state == f"{name} is damaged" or (name == "run.json" and state not in ("finished", "failed"))
        if name not in (WEIGHTS, "run.json"):
            (path / name).write_bytes(whole)
    assert digests(trained(finished_copy, run).path, *right) == right


def test_a_bit_that_flipped_within_a_prepared_image_is_seen(tmp_path, prepared_study):
    path, right = tmp_path / "prepared.h5", prepared_study.prepared(prepared_study.dataset("cardiac"))
    with h5py.File(right) as file:
        place = next(iter(file["volumes"].values())).id.get_chunk_info(0).byte_offset + 1000
    path.write_bytes(flipped(right.read_bytes(), place))
    with pytest.raises(StudyError, match=r"prepared.h5"):
        list(read_prepared(path))


def test_several_processes_prepare_the_same_and_one_that_dies_is_said(tmp_path, monkeypatch):
    """The processes find their files gone mad: a module of theirs ends them. What was made before is kept."""
    downloads.nifti(tmp_path / "download")
    broken = tmp_path / "download/person1/scan.nii.gz"
    broken.write_bytes(broken.read_bytes()[:900])
    dataset = downloads.declared("nifti_folder", tmp_path / "download")
    with monkeypatch.context() as patch:
        (tmp_path / "sitecustomize.py").write_text(
            "import os, sys\nfrom multiprocessing import process\n"
            "if 'spawn_main' in ' '.join(sys.orig_argv):\n    import nibabel\n    nibabel.load = lambda path: os._exit(1)\n"
        )
        patch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        with pytest.raises(StudyError, match=r"a process that made volumes died .* fewer --jobs need less memory"):
            prepare(dataset, tmp_path / "2.h5", jobs=2)
        assert not (tmp_path / "2.h5").exists() and (tmp_path / ".2.parts").is_dir()
    one, two = (prepare(dataset, tmp_path / f"{jobs}.h5", jobs) for jobs in (1, 2))
    assert one == two and set(one.left_out) == {"person1_scan"}
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()
