"""Run folders: made once, made again when damaged or out of date; weights are data."""

import math
import os
import pickle

import numpy as np
import pandas as pd
import pytest

from kdmri_lib.datasets import prepared
from kdmri_lib.declarations import Degradation, LossTerm
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import evaluate
from kdmri_lib.storage import read_json
from kdmri_study.build import declared_operator
from kdmri_study.runs import CURVE, SITTING, SLICES, VOLUMES, WEIGHTS, RunFolder, load_weights, seconds_before, trained
from tests.studies import CELL
from tests.trainings import Trap


@pytest.fixture
def runs(study):
    return study.methods(CELL, seed=0)


def test_run_folders_are_made_once_and_made_again_when_damaged(study, runs):
    run = runs["distilled"]
    folder = trained(study, run)
    assert folder.state() == "finished"
    assert {*folder.volumes["set"]} == {"test"} and len(folder.volumes) == 2
    assert not list(folder.path.glob("checkpoint.pt"))
    record = (folder.path / "run.json").stat().st_mtime_ns
    trained(study, run)
    assert (folder.path / "run.json").stat().st_mtime_ns == record, "a finished run isn't trained again"
    original = (folder.path / WEIGHTS).read_bytes()
    (folder.path / WEIGHTS).write_bytes(original[:-100] + bytes(100))
    assert RunFolder(study, run).state() == f"{WEIGHTS} is damaged"
    assert (trained(study, run).path / WEIGHTS).read_bytes() == original, "made again, with the same bits"


def test_what_is_measured_is_the_network_that_the_weights_make(study, runs):
    """Also where training had it do with fewer lines than are measured."""
    run = runs["student"].model_copy(update={"objective": (LossTerm(loss="held_out_lines"),)})
    folder = trained(study, run)
    volumes, _ = evaluate(
        folder.network(), declared_operator(run), prepared.test_volumes(study.prepared(run.dataset.name))
    )
    assert folder.volumes.psnr.tolist() == pytest.approx(volumes.psnr.tolist(), abs=1e-6)


def test_a_run_trains_what_it_needs_first_and_says_what_it_was_made_from(study, runs):
    run = runs["distilled"]
    assert RunFolder(study, run).state() == "missing"
    folder = trained(study, run)
    for needed in (runs["teacher"], runs["attention_transfer"]):
        other = RunFolder(study, needed)
        assert other.state() == "finished"
        assert folder.record["inputs"]["needs"][needed.id] == other.checksum()
    assert RunFolder(study, runs["student"]).state() == "missing", "and no other"


def test_a_run_is_out_of_date_when_what_it_started_from_changed(study, runs):
    trained(study, runs["attention_transfer"])
    teacher = RunFolder(study, runs["teacher"]).path / WEIGHTS
    teacher.write_bytes(teacher.read_bytes() + b" ")
    assert RunFolder(study, runs["attention_transfer"]).state() == "out of date"


def test_a_file_that_is_gone_or_cut_short_is_seen(study, runs):
    run = runs["student"]
    folder = trained(study, run).path
    for file in ("run.json", WEIGHTS, CURVE, VOLUMES, SLICES):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[:-5])
        assert RunFolder(study, run).state().startswith(f"{file} is damaged")
        (folder / file).unlink()
        assert RunFolder(study, run).state() == ("missing" if file == "run.json" else f"{file} is damaged")
        (folder / file).write_bytes(content)
        assert RunFolder(study, run).state() == "finished"


def test_run_ids_follow_the_content(runs):
    student = runs["student"]
    assert student.id == student.model_copy().id
    changed = [{"seed": 1}, {"degradation": Degradation(acceleration=4)}, {"precision": "float32"}]
    assert len({student.id, *(student.model_copy(update=c).id for c in changed)}) == 4


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"{}" * 30])
def test_weights_that_are_no_safetensors_are_refused(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"weights.safetensors: not a safetensors file"):
        load_weights(path)


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(StudyError, match=r"weights.safetensors: no such file"):
        load_weights(tmp_path / "weights.safetensors")


def test_nothing_stored_in_weights_is_executed(tmp_path):
    sprung = tmp_path / "sprung"
    (tmp_path / "weights.safetensors").write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    with pytest.raises(StudyError):
        load_weights(tmp_path / "weights.safetensors")
    assert not sprung.exists()


def test_the_seconds_of_a_run_are_those_of_all_its_sittings(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    assert seconds_before(tmp_path, checkpoint) == 0
    told = read_json(tmp_path / SITTING)
    checkpoint.touch()
    os.utime(checkpoint, (told["began"] + 60, told["began"] + 60))
    assert seconds_before(tmp_path, checkpoint) == pytest.approx(60)
    began = read_json(tmp_path / SITTING)["began"]
    os.utime(checkpoint, (began + 30, began + 30))
    assert seconds_before(tmp_path, checkpoint) == pytest.approx(90)
    checkpoint.unlink()
    assert seconds_before(tmp_path, checkpoint) == 0, "nothing of it is kept"


def test_the_validation_psnr_of_a_run_is_that_of_the_checkpoint_that_it_kept(study, runs):
    """Of one that judges images the highest; of another that where its objective is lowest, and is a number."""
    folder = RunFolder(study, runs["student"])
    curve = pd.DataFrame({"validation_psnr": [30.0, 32, 31], "validation_objective": np.nan})
    folder.__dict__ |= {"record": {}, "curve": curve}
    assert folder.validation == 32
    curve["validation_objective"] = [0.3, 0.2, 0.1]
    assert folder.validation == 31
    curve["validation_objective"] = [0.3, 0.2, np.nan]
    assert folder.validation == 32
    folder.record["failed"] = "NaN"
    assert math.isnan(folder.validation)
    held_out = RunFolder(study, runs["student"].model_copy(update={"objective": (LossTerm(loss="held_out_lines"),)}))
    held_out.__dict__ |= {"record": {}, "curve": curve}
    assert math.isnan(held_out.validation), "of images from fewer lines"
