"""Training: the same bits for the same seed, also when it was stopped and resumed; weights and checkpoints as data."""

import hashlib
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from kdmri_lib.sampling import Undersampling, declared_mask

from kdmri_lib import training
from kdmri_lib.datasets.prepared import Slices, read_prepared
from kdmri_lib.declarations import Degradation, LossTerm, Schedule
from kdmri_lib.errors import StoppedError, StudyError
from kdmri_lib.evaluation import reconstruct
from kdmri_lib.losses.attentive_hint import AttentiveHint
from kdmri_lib.models.base import begin_from
from kdmri_lib.storage import CHECKED_MAGIC, read_checked, write_bytes
from kdmri_study.runs import WEIGHTS, RunFolder, load_weights, trained
from kdmri_study.study import Cell

CELL = Cell("cardiac", 8)


@pytest.fixture
def runs(study):
    return study.methods(CELL, seed=0)


@pytest.fixture
def data(study):
    path = study.prepared("cardiac")
    return Slices(path, "train"), list(read_prepared(path, "validation"))


def weights(result):
    return result.network.state_dict()


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(runs, data, tmp_path):
    run = runs["student"]
    first, second = (training.train(run, *data, tmp_path / f"{n}.pt") for n in "ab")
    other = training.train(run.model_copy(update={"seed": 1}), *data, tmp_path / "c.pt")
    assert_same_bits(weights(first), weights(second))
    assert any(not torch.equal(weights(first)[n], weights(other)[n]) for n in weights(first))
    assert first.curve.equals(second.curve)


@pytest.mark.parametrize("method", ["student", "attention_transfer", "distilled"])
@pytest.mark.parametrize("last", [1, 3, 5])
def test_stopped_and_resumed_equals_uninterrupted(runs, data, tmp_path, method, last):
    run = runs[method]
    teacher = training.build_network(runs["teacher"]) if run.teacher else None
    start = training.build_network(runs["student"]) if run.start else None
    whole = training.train(run, *data, tmp_path / "whole.pt", teacher, start)
    done = []
    with pytest.raises(StoppedError, match="stopped after step"):
        training.train(
            run,
            *data,
            tmp_path / "cut.pt",
            teacher,
            start,
            lambda step, *_: done.append(step),
            lambda: done[-1] == last,
        )
    resumed = training.train(run, *data, tmp_path / "cut.pt", teacher, start, lambda step, *_: done.append(step))
    assert done == list(range(1, 7)), "no step is done twice, none is left out"
    assert_same_bits(weights(whole), weights(resumed))
    assert whole.curve.equals(resumed.curve)


def test_the_teacher_stays_as_it_was(runs, data, tmp_path):
    teacher = training.build_network(runs["teacher"])
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    training.train(runs["attention_transfer"], *data, tmp_path / "x.pt", teacher)
    assert_same_bits(before, teacher.state_dict())


@pytest.mark.parametrize("strip", [None, 10])
def test_attentive_losses_see_the_teachers_error_on_every_sample(study, runs, data, tmp_path, monkeypatch, strip):
    """Against the error of each slice or strip, calculated one by one."""
    seen = []
    monkeypatch.setattr(AttentiveHint, "prepare", lambda loss, errors: seen.append(errors) or loss.eta.fill_(1.0))
    run = runs["attention_transfer"]
    hint = LossTerm(loss="attentive_hint", options={"pairs": run.objective[0].options["pairs"]})
    schedule = run.schedule.model_copy(update={"strip": strip, "steps": 1, "validations": 1})
    run = run.model_copy(update={"objective": (hint,), "schedule": schedule, "precision": "float32"})
    teacher = training.build_network(runs["teacher"]).eval()
    training.train(run, *data, tmp_path / "x.pt", teacher)
    degradation = Undersampling(declared_mask(run.dataset, run.degradation))
    expected = []
    for volume in read_prepared(study.prepared("cardiac"), "train"):
        squared = (reconstruct(teacher, degradation, volume.image) - volume.image) ** 2
        width = strip or squared.shape[2]
        starts = range(0, squared.shape[2] - width + 1, width)
        expected += [image[:, o : o + width].mean() for image in squared for o in starts]
    np.testing.assert_allclose(sorted(seen[0].tolist()), sorted(expected), rtol=1e-3)


def test_training_lowers_the_loss(runs, data, tmp_path):
    longer = runs["student"].model_copy(update={"schedule": Schedule(steps=60, strip=24, learning_rate=2e-3)})
    curve = training.train(longer, *data, tmp_path / "x.pt").curve
    assert curve.validation_psnr.iloc[-1] > curve.validation_psnr.iloc[0] + 0.3
    assert curve.training_loss.iloc[-1] < curve.training_loss.iloc[0]


def test_a_loss_that_is_not_finite_stops_and_names_step_and_slices(runs, data, tmp_path):
    broken, validation = data
    broken._held.fill_(float("inf"))
    with pytest.raises(
        StudyError, match=r"the loss is (nan|inf) at step 1; its batch: phantom00\d slice \d, phantom00\d"
    ):
        training.train(runs["student"], broken, validation, tmp_path / "x.pt")


@pytest.mark.parametrize("strip", [None, 10])
def test_slices_read_from_the_file_train_to_the_same_bits_as_those_held_in_memory(study, runs, tmp_path, strip):
    path = study.prepared("cardiac")
    held, stored = Slices(path, "train"), Slices(path, "train", held_bytes=1000)
    assert held.in_memory and not stored.in_memory
    assert held.names == stored.names and held.shape == stored.shape == (8, 1, 72, 72)
    torch.testing.assert_close(held[[3, 0, 7]], stored[[3, 0, 7]], rtol=0, atol=0)
    schedule = runs["student"].schedule.model_copy(update={"strip": strip, "steps": 4})
    run = runs["student"].model_copy(update={"schedule": schedule})
    validation = list(read_prepared(path, "validation"))
    results = [training.train(run, s, validation, tmp_path / f"{s.in_memory}.pt") for s in (held, stored)]
    assert_same_bits(*(weights(r) for r in results))


def test_a_student_starts_from_the_branches_of_a_student_friendly_teacher(study, runs):
    """All cascades but the first are the branches'; the first is the student's own."""
    recipe = replace(study.recipe(CELL, 0), student_friendly=True)
    run = recipe.finetuned(recipe.teacher)
    network, teacher = training.build_network(run), training.build_network(recipe.teacher)
    own = {k: v.clone() for k, v in network.state_dict().items()}
    begin_from(network, teacher)
    for name, value in network.state_dict().items():
        expected = own if name.startswith("cascades.0.") else teacher.student.state_dict()
        assert torch.equal(value, expected[name])
        assert name.startswith("cascades.0.") or not torch.equal(value, own[name])
    with pytest.raises(StudyError, match="don't fit the network"):
        begin_from(network, training.build_network(runs["teacher"]))


def test_student_friendly_training_moves_all_of_the_teacher_and_of_the_branches(study, data, tmp_path):
    run = replace(study.recipe(CELL, 0), student_friendly=True).teacher
    before = training.build_network(run).state_dict()
    after = training.train(run, *data, tmp_path / "x.pt").network.state_dict()
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith("student.cascades.0."), name


def test_strips_need_lines(runs, data, tmp_path):
    points = runs["student"].model_copy(update={"degradation": Degradation(kind="gaussian_2d", acceleration=4)})
    with pytest.raises(StudyError, match="strips need a mask of whole lines"):
        training.train(points, *data, tmp_path / "x.pt")
    whole = points.model_copy(update={"schedule": Schedule(steps=2, batch=2, validations=1)})
    assert math.isfinite(training.train(whole, *data, tmp_path / "y.pt").curve.validation_psnr[0])


def test_batches_visit_every_slice_once_an_epoch():
    batches = training.Batches(torch.arange(12.0).reshape(12, 1, 1, 1), batch=3, seed=5)
    epochs = [[int(v) for step in range(4 * e, 4 * e + 4) for v in batches(step).flatten()] for e in range(2)]
    assert [sorted(e) for e in epochs] == [list(range(12))] * 2
    assert epochs[0] != epochs[1]


def test_strips_are_parts_of_their_slices():
    images = torch.arange(2 * 6 * 10.0).reshape(2, 1, 6, 10)
    strip = training.Batches(images, batch=1, seed=0, strip=4, axis=3)(7)
    assert strip.shape == (1, 1, 6, 4)
    assert any(torch.equal(strip[0], image[..., o : o + 4]) for image in images for o in range(7))


def test_schedules():
    step = Schedule(epochs=150, learning_rate=1e-3, decay="step")
    assert step.total_steps(slices=40) == 1500
    rates = [training.learning_rate(step, s, 150) for s in (0, 39, 40, 80, 120)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-6])
    cosine = Schedule(steps=10, learning_rate=1.0, decay="cosine")
    assert training.learning_rate(cosine, 5, 10) == pytest.approx(0.5)
    assert cosine.stretched(2.5).steps == 25


def test_an_objective_with_a_teacher_needs_one(runs, data, tmp_path):
    orphan = runs["student"].model_copy(update={"objective": (LossTerm(loss="imitation"),)})
    with pytest.raises(StudyError, match="needs a teacher"):
        training.train(orphan, *data, tmp_path / "x.pt")


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


def test_a_run_is_out_of_date_when_what_it_started_from_changed(study, runs):
    trained(study, runs["attention_transfer"])
    teacher = RunFolder(study, runs["teacher"]).path / WEIGHTS
    teacher.write_bytes(teacher.read_bytes() + b" ")
    assert RunFolder(study, runs["attention_transfer"]).state() == "out of date"


def test_run_ids_follow_the_content(runs):
    student = runs["student"]
    assert student.id == student.model_copy().id
    changed = [{"seed": 1}, {"degradation": Degradation(acceleration=4)}, {"precision": "float32"}]
    assert len({student.id, *(student.model_copy(update=c).id for c in changed)}) == 4


class Trap:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"{}" * 30])
def test_weights_that_are_no_safetensors_are_refused(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"weights.safetensors: not a safetensors file"):
        load_weights(path)


def test_nothing_stored_in_weights_or_checkpoints_is_executed(runs, data, tmp_path):
    sprung = tmp_path / "sprung"
    payload = pickle.dumps(Trap(sprung), protocol=2)
    (tmp_path / "weights.safetensors").write_bytes(payload)
    with pytest.raises(StudyError):
        load_weights(tmp_path / "weights.safetensors")
    # A checkpoint whose checksum is right and whose content is hostile.
    write_bytes(tmp_path / "x.pt", CHECKED_MAGIC + hashlib.sha256(payload).digest() + payload)
    with pytest.raises(StudyError, match=r"x.pt: not a KD-MRI checkpoint"):
        training.train(runs["student"], *data, tmp_path / "x.pt")
    assert not sprung.exists()


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b[:-9] + b"x" + b[-8:]]
)
def test_a_damaged_checkpoint_is_refused(runs, data, tmp_path, damage):
    path = tmp_path / "x.pt"
    with pytest.raises(StoppedError):
        training.train(runs["student"], *data, path, stop=lambda: True)
    assert len(read_checked(path)) > 1000
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StudyError, match="damaged or not a KD-MRI checkpoint"):
        training.train(runs["student"], *data, path)
