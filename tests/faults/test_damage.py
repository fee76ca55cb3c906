"""Files emptied, cut and with a bit flipped: each is named, none is used, and what can be made again is.

Damaged evidence: `tests/unit/study/test_evidence.py`; any damage to a file that is read: `test_fuzz.py`.
"""

import h5py
import pytest

from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.errors import StoppedError, StudyError
from kdmri_study.evidence import FILES, Evidence, job
from kdmri_study.profile import Study
from kdmri_study.runs import CURVE, SLICES, VOLUMES, WEIGHTS, RunFolder, trained
from tests.studies import JOB, digests, runs_of, sharing_data, small_profile


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


DAMAGES = {
    "emptied": lambda content: b"",
    "cut in the middle": lambda content: content[: len(content) // 2],
    "a bit flipped": lambda content: flipped(content, len(content) // 2),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_run_is_named_and_the_run_made_again(study, damage):
    run = runs_of(study)["student"]
    path = trained(study, run).path
    files = (WEIGHTS, CURVE, VOLUMES, SLICES)
    right = digests(path, *files)
    assert len(right) == 4
    for name in (CURVE, VOLUMES, SLICES, WEIGHTS, "run.json"):
        whole = (path / name).read_bytes()
        (path / name).write_bytes(DAMAGES[damage](whole))
        state = RunFolder(study, run).state()
        assert state == f"{name} is damaged" or (name == "run.json" and state not in ("finished", "failed"))
        if name in (CURVE, VOLUMES, SLICES):
            (path / name).write_bytes(whole)
    assert digests(trained(study, run).path, *files) == right


def test_a_damaged_checkpoint_is_refused_and_the_right_one_goes_on(study, tmp_path):
    here = sharing_data(small_profile(tmp_path / "longer.yaml", 60), tmp_path / "here", study)
    run = runs_of(here)["student"]
    path = RunFolder(here, run).path / "checkpoint.pt"
    asked = []
    with pytest.raises(StoppedError):
        trained(here, run, stop=lambda: asked.append(1) or len(asked) > 5)
    content = path.read_bytes()
    for damage in DAMAGES.values():
        path.write_bytes(damage(content))
        with pytest.raises(StudyError, match=r"checkpoint.pt: damaged .*; delete it and the run begins anew"):
            trained(here, run)
    path.write_bytes(content)
    assert trained(here, run).state() == "finished"


def test_a_bit_that_flipped_within_a_prepared_image_is_seen(tmp_path, prepared_study):
    path, right = tmp_path / "prepared.h5", prepared_study.prepared(prepared_study.dataset("cardiac"))
    with h5py.File(right) as file:
        place = next(iter(file["volumes"].values())).id.get_chunk_info(0).byte_offset + 1000
    path.write_bytes(flipped(right.read_bytes(), place))
    with pytest.raises(StudyError, match=r"prepared.h5"):
        list(read_prepared(path))


def test_evidence_whose_plain_text_is_cut_or_names_another_run_is_named(finished_study, tmp_path):
    """The compressed files hold checksums of their own."""
    here = Study(finished_study.source, tmp_path)
    folder = job(here, JOB).folder(here)
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes((job(here, JOB).folder(finished_study) / name).read_bytes())
    whole = (folder / FILES[0]).read_bytes()
    for damaged in (DAMAGES["cut in the middle"](whole), whole.replace(b"-reconstruction-", b"-reconstructioo-", 1)):
        (folder / FILES[0]).write_bytes(damaged)
        with pytest.raises(StudyError, match=rf"{JOB}/runs.csv: damaged or cut short: "):
            Evidence(here).of(runs_of(here)["student"])
