"""Run folders: made once, made again when damaged or out of date; weights are data."""

import importlib.util
import math
import os
import pickle

import numpy as np
import pandas as pd
import pytest

from kdmri_lib import declarations
from kdmri_lib.datasets.prepared import test_volumes as volumes_of
from kdmri_lib.declarations import LossTerm
from kdmri_lib.declared import declared_mask, declared_operator
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import evaluate
from kdmri_lib.losses.base import LOSSES
from kdmri_lib.storage import read_json
from kdmri_study import runs as engine
from kdmri_study.profile import Study
from kdmri_study.runs import SITTING, Outcome, RunFolder, load_weights, trained
from tests.studies import runs_of, small_profile
from tests.trainings import Trap


@pytest.fixture
def runs(finished_study):
    return runs_of(finished_study)


def test_a_job_trains_all_of_its_runs_each_after_what_it_needs(finished_study, runs):
    folders = {name: RunFolder(finished_study, run) for name, run in runs.items()}
    assert {folder.state() for folder in folders.values()} == {"finished"}
    assert not list(finished_study.results.rglob("checkpoint.pt"))
    needs = folders["distilled"].record["inputs"]["needs"]
    assert needs == {runs[name].id: folders[name].checksum() for name in ("teacher", "attention_transfer")}
    assert {*folders["student"].outcome.volumes["set"]} == {"test"}
    assert RunFolder(finished_study, runs_of(finished_study, seed=1)["student"]).state() == "missing"


def test_a_finished_run_is_not_trained_again(finished_study, runs):
    record = RunFolder(finished_study, runs["distilled"]).path / "run.json"
    before = record.stat().st_mtime_ns
    trained(finished_study, runs["distilled"])
    assert record.stat().st_mtime_ns == before


def test_what_is_measured_is_the_network_that_the_weights_make(finished_study, study, runs):
    """Also where training had it do with fewer lines than are measured."""
    held_out = runs["student"].model_copy(update={"objective": (LossTerm(loss="held_out_lines"),)})
    for folder in (RunFolder(finished_study, runs["distilled"]), trained(study, held_out)):
        run = folder.run
        operator = declared_operator(run.dataset, run.undersampling)
        volumes, _ = evaluate(folder.network(), operator, volumes_of(folder.study.prepared(run.dataset)))
        assert folder.outcome.volumes.psnr.tolist() == pytest.approx(volumes.psnr.tolist(), abs=1e-6)


def test_a_run_is_out_of_date_when_what_it_started_from_changed(finished_copy, runs):
    weights = RunFolder(finished_copy, runs["teacher"]).weights
    weights.write_bytes(weights.read_bytes() + b" ")
    assert RunFolder(finished_copy, runs["attention_transfer"]).state() == "out of date"


OWN_LOSS = """
from kdmri_lib.losses.base import LOSSES, Loss


@LOSSES.register("own_for_this_test")
class Own(Loss):
    uses_teacher = False

    def forward(self, target, prediction, teacher):
        return self.distance(target, prediction.image)

    def distance(self, a, b):
        return (a - b).abs().mean()
"""


def test_a_loss_that_is_written_otherwise_makes_its_runs_out_of_date_and_no_other(study, runs, tmp_path):
    own = runs["student"].model_copy(update={"objective": (LossTerm(loss="own_for_this_test"),)})
    states = []
    try:
        for number, source in enumerate((OWN_LOSS, OWN_LOSS.replace(".abs()", ".square()"))):
            path = tmp_path / f"own_{number}.py"
            path.write_text(source)
            spec = importlib.util.spec_from_file_location("own_for_this_test", path)
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
            if number == 0:
                trained(study, own), trained(study, runs["student"])
            states.append([RunFolder(study, run).state() for run in (own, runs["student"])])
    finally:
        LOSSES.remove("own_for_this_test")
    assert states == [["finished", "finished"], ["out of date", "finished"]]


def test_a_changed_mask_or_changed_data_make_a_run_out_of_date(study, runs, tmp_path):
    run = runs["student"]
    mask = declared_mask(run.dataset, run.undersampling)
    np.save(tmp_path / "mask.npy", mask)
    undersampling = run.undersampling.model_copy(update={"mask": str(tmp_path / "mask.npy")})
    own = trained(study, run.model_copy(update={"undersampling": undersampling}))
    assert own.state() == "finished"
    np.save(tmp_path / "mask.npy", np.roll(mask, 1, axis=0))
    assert own.state() == "out of date"
    np.save(tmp_path / "mask.npy", mask)
    assert own.state() == "finished", "the same mask again"
    images = Study(small_profile(tmp_path / "other.yaml", cardiac={"seed": 99}), tmp_path / "other")
    engine.prepare_dataset(images, images.dataset("cardiac"))
    prepared = study.prepared(run.dataset)
    prepared.unlink()
    prepared.symlink_to(images.prepared(images.dataset("cardiac")))
    assert own.state() == "out of date"


def test_every_parameter_of_a_run_and_numerics_name_another_folder(runs, monkeypatch):
    run = runs["distilled"]
    changes = [
        {"seed": 1},
        {"objective": (LossTerm(loss="imitation", weight=2.0),)},
        {"undersampling": run.undersampling.model_copy(update={"seed": 3})},
        {"network": run.network.model_copy(update={"options": {**run.network.options, "features": 9}})},
        {"teacher": run.teacher.model_copy(update={"seed": 5})},
        {"start": None},
        {"schedule": run.schedule.model_copy(update={"strip": 8})},
    ]
    ids = {run.id, *(run.model_copy(update=change).id for change in changes)}
    assert run.model_copy().id == run.id and len(ids) == len(changes) + 1
    monkeypatch.setattr(declarations, "NUMERICS", 2)
    assert run.model_copy().id not in ids


def test_weights_that_are_no_safetensors_are_refused_and_nothing_in_them_is_executed(tmp_path):
    path, sprung = tmp_path / "weights.safetensors", tmp_path / "sprung"
    with pytest.raises(StudyError, match=r"weights.safetensors: no such file"):
        load_weights(path)
    for content in (b"", b"\x80\x04K\x01.", b"{}" * 30, pickle.dumps(Trap(sprung), protocol=2)):
        path.write_bytes(content)
        with pytest.raises(StudyError, match=r"weights.safetensors: not a safetensors file"):
            load_weights(path)
    assert not sprung.exists()


def test_the_seconds_of_a_run_are_those_of_all_its_sittings(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    assert engine._seconds_before(tmp_path, checkpoint) == 0
    told = read_json(tmp_path / SITTING)
    checkpoint.touch()
    os.utime(checkpoint, (told["began"] + 60, told["began"] + 60))
    assert engine._seconds_before(tmp_path, checkpoint) == pytest.approx(60)
    began = read_json(tmp_path / SITTING)["began"]
    os.utime(checkpoint, (began + 30, began + 30))
    assert engine._seconds_before(tmp_path, checkpoint) == pytest.approx(90)
    checkpoint.unlink()
    assert engine._seconds_before(tmp_path, checkpoint) == 0, "nothing of it is kept"


def test_the_validation_psnr_of_a_run_is_that_of_the_checkpoint_that_it_kept(runs):
    """Of one that judges images the highest; of another that where its objective is lowest, and is a number."""
    run, curve = runs["student"], pd.DataFrame({"validation_psnr": [30.0, 32, 31], "validation_objective": np.nan})
    held_out = run.model_copy(update={"objective": (LossTerm(loss="held_out_lines"),)})

    def kept(objective, of=run, **record):
        return Outcome(record, curve.assign(validation_objective=objective), curve[:0], curve[:0]).validation(of)

    assert kept(np.nan) == 32 and kept([0.3, 0.2, 0.1]) == 31 and kept([0.3, 0.2, np.nan]) == 32
    assert math.isnan(kept(np.nan, failed="NaN"))
    assert math.isnan(kept(np.nan, held_out)), "of images from fewer lines"
