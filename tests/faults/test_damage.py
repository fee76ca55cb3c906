"""Files emptied, cut and with a bit flipped: each is named, none is used, and what can be made again is."""

import h5py
import pytest

from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.deployment.model import read_model
from kdmri_lib.errors import StoppedError, StudyError
from kdmri_study.deploying import export
from kdmri_study.runs import CURVE, SLICES, VOLUMES, WEIGHTS, RunFolder, check_finished, trained
from tests.faults.commands import of_run
from tests.studies import CELL, sharing_data, small_profile

DAMAGES = {
    "emptied": lambda content: b"",
    "cut in the middle": lambda content: content[: len(content) // 2],
    "a bit flipped": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 16]) + content[len(content) // 2 + 1 :]
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [WEIGHTS, CURVE, VOLUMES, SLICES, "run.json"])
def test_a_damaged_file_of_a_run_is_named_and_the_run_made_again(study, name, damage):
    run = study.methods(CELL, 0)["student"]
    folder = trained(study, run)
    right = of_run(folder.path)
    path = folder.path / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert RunFolder(study, run).state() in (f"{name} is damaged", "out of date") or name == "run.json"
    assert "finished" not in RunFolder(study, run).state()
    assert of_run(trained(study, run).path) == right


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused(study, tmp_path, damage):
    profile = small_profile(tmp_path / "longer.yaml", 400)
    here = sharing_data(profile, tmp_path / "here", study)
    run = here.methods(CELL, 0)["student"]
    path = RunFolder(here, run).path / "checkpoint.pt"
    asked = []
    with pytest.raises(StoppedError):
        trained(here, run, stop=lambda: asked.append(1) or len(asked) > 5)
    content = path.read_bytes()
    path.write_bytes(DAMAGES[damage](content))
    with pytest.raises(StudyError, match=r"checkpoint.pt: damaged .*; delete it and the run begins anew"):
        trained(here, run)
    path.write_bytes(content)
    assert trained(here, run).state() == "finished", "the right one goes on"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_prepared_data_are_refused(tmp_path, prepared_study, damage):
    path = tmp_path / "prepared.h5"
    content = prepared_study.prepared("cardiac").read_bytes()
    if damage == "a bit flipped":  # within an image; other bytes of HDF5 may hold nothing
        with h5py.File(prepared_study.prepared("cardiac")) as file:
            place = next(iter(file["volumes"].values())).id.get_chunk_info(0).byte_offset + 1000
        content = content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]
    path.write_bytes(content if damage == "a bit flipped" else DAMAGES[damage](content))
    with pytest.raises(StudyError, match=r"prepared.h5"):
        list(read_prepared(path))


def test_damaged_metrics_make_no_table(study):
    run = study.methods(CELL, 0)["student"]
    study.__dict__["runs"] = {run.id: run}
    folder = trained(study, run)
    check_finished(study)
    (folder.path / VOLUMES).write_bytes(b"")
    with pytest.raises(StudyError, match=rf"1 of 1 runs can't vouch for a table; the first: {run.id}, {VOLUMES} is"):
        check_finished(study)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_network_is_refused(study, tmp_path, damage):
    path = tmp_path / "network.onnx"
    export(trained(study, study.methods(CELL, 0)["student"]), path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(StudyError, match=r"network.onnx"):
        read_model(path)
