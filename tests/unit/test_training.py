"""Training: the same bits for the same seed, also when it was stopped and resumed; checkpoints as data."""

import hashlib
import math
import pickle

import numpy as np
import pytest
import torch

from kdmri_lib.datasets.prepared import Slices, read_prepared
from kdmri_lib.declarations import Degradation, LossTerm, Schedule
from kdmri_lib.declared import declared_network, declared_operator, training_step
from kdmri_lib.errors import NotFiniteError, StoppedError, StudyError
from kdmri_lib.evaluation import reconstruct
from kdmri_lib.losses.attentive_hint import AttentiveHint
from kdmri_lib.models.base import begin_from
from kdmri_lib.storage import CHECKED_MAGIC, read_checked, write_bytes
from kdmri_lib.training import CURVE_COLUMNS, learning_rate, predict, validate_network
from tests.studies import SETTING, runs_of
from tests.trainings import Trap, assert_same_bits, data_of, train, train_by


@pytest.fixture
def runs(study):
    return runs_of(study)


@pytest.fixture
def data(study):
    return data_of(study.prepared(study.dataset("cardiac")))


def weights(result):
    return result.network.state_dict()


def scheduled(run, **changes):
    return run.model_copy(update={"schedule": run.schedule.model_copy(update=changes)})


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(runs, data, tmp_path):
    run = runs["student"]
    first, second = (train(run, data, tmp_path / f"{n}.pt") for n in "ab")
    other = train(run.model_copy(update={"seed": 1}), data, tmp_path / "c.pt")
    assert_same_bits(weights(first), weights(second))
    assert any(not torch.equal(weights(first)[n], weights(other)[n]) for n in weights(first))
    assert first.curve.equals(second.curve)


def objectives(runs):
    """By name: runs with a teacher, one with a start, one whose loss has parameters of its own, one that keeps eta."""
    transfer = runs["attention_transfer"]
    pairs = transfer.objective[0].options["pairs"]
    regressed = LossTerm(loss="fitnets", options={"pairs": pairs, "channels": [[8, 5]] * 2, "kernel": 3})
    narrow = runs["student"].network.model_copy(update={"options": {**runs["student"].network.options, "features": 5}})
    hint = LossTerm(loss="attentive_hint", options={"pairs": pairs})
    return runs | {
        "fitnets, with regressors": transfer.model_copy(update={"network": narrow, "objective": (regressed,)}),
        "attentive hint": transfer.model_copy(update={"objective": (hint,)}),
        "expanded": scheduled(runs["student"], expansion=7),
        "averaged": scheduled(runs["student"], averaging=0.5),
        "held-out lines": runs["student"].model_copy(update={"objective": (LossTerm(loss="held_out_lines"),)}),
    }


@pytest.mark.parametrize(
    "method",
    [
        *("student", "attention_transfer", "distilled", "fitnets, with regressors", "attentive hint"),
        *("expanded", "averaged", "held-out lines"),
    ],
)
@pytest.mark.parametrize("last", [1, 3, 5])
def test_stopped_and_resumed_equals_uninterrupted(runs, data, tmp_path, method, last):
    run = objectives(runs)[method]
    teacher = declared_network(runs["teacher"]) if run.teacher else None
    start = declared_network(runs["student"]) if run.start else None
    whole = train(run, data, tmp_path / "whole.pt", teacher, start)
    done = []
    hooks = {"progress": lambda step, *_: done.append(step), "stop": lambda: done[-1] == last}
    with pytest.raises(StoppedError, match=f"stopped after step {last} of 6"):
        train(run, data, tmp_path / "cut.pt", teacher, start, **hooks)
    resumed = train(run, data, tmp_path / "cut.pt", teacher, start, progress=hooks["progress"])
    assert done == list(range(1, 7)), "no step is done twice, none is left out"
    assert_same_bits(weights(whole), weights(resumed))
    assert whole.curve.equals(resumed.curve)


def test_averaged_weights_are_the_moving_average_of_the_weights_that_train(runs, data):
    """Against the recursion written out; the first step's weights begin it."""
    step = training_step(scheduled(runs["student"], averaging=0.9))
    batch, expected = data[0][[0, 1]], None
    for _ in range(4):
        step(batch, 1e-3)
        now = [p.detach().clone() for p in step.network.parameters()]
        expected = now if expected is None else [0.9 * e + 0.1 * n for e, n in zip(expected, now, strict=True)]
    for average, value in zip(step.averaged.module.parameters(), expected, strict=True):
        torch.testing.assert_close(average, value)
    averaged = step.validate([batch])["validation_psnr"]
    step.judged.load_state_dict(step.network.state_dict())
    assert step.validate([batch])["validation_psnr"] != averaged, "validation judges the average"


@pytest.mark.parametrize("channels", [1, 2])
def test_lines_that_are_held_out_are_compared_and_not_seen(runs, data, channels):
    """Change the image at held-out lines alone: the network's image stays, and the loss is of that change."""
    run = runs["student"].model_copy(update={"objective": (LossTerm(loss="held_out_lines"),), "precision": "float32"})
    run = (
        run.model_copy(update={"dataset": run.dataset.model_copy(update={"domain": "complex"})})
        if channels == 2
        else run
    )
    step = training_step(run)
    target = data[0][[0, 1]].expand(-1, channels, -1, -1).clone()
    held = step.operator.split(0.4, np.random.default_rng(5))[1]
    changed = target + held.left(torch.randn_like(target))[:, :channels]
    results = [step.loss(image, draw=np.random.default_rng(5)) for image in (target, changed)]
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)
    image = results[0][1]
    for (loss, _), truth in zip(results, (target, changed), strict=True):
        left, norm = held.left(truth - image).flatten(1).norm(dim=1), held.left(truth).flatten(1).norm(dim=1)
        assert loss.item() == pytest.approx((left / norm).mean().item(), rel=1e-4)
    assert not torch.equal(image, predict(step.network, step.operator(target), []).image), (
        "of fewer lines than measured"
    )


def test_true_images_that_are_missing_are_asked_for_by_no_loss(runs, data, tmp_path):
    run = runs["distilled"]
    step = training_step(run, declared_network(runs["teacher"]))
    with pytest.raises(StudyError, match=r"true images of 2 of \d+ slices, and an objective that looks at them"):
        train_by(step, run, data, tmp_path / "x.pt", truths=2)


@pytest.mark.parametrize("method", ["student", "attention_transfer", "distilled"])
def test_on_complex_images_stopped_and_resumed_equals_uninterrupted(complex_study, tmp_path, method):
    """The phases that samples are turned by come again too, those of the teacher's answers with them."""
    runs = runs_of(complex_study)
    run, data = runs[method], data_of(complex_study.prepared(complex_study.dataset("cardiac")))
    assert data[0].shape[1] == 2
    teacher = declared_network(runs["teacher"]) if run.teacher else None
    start = declared_network(runs["student"]) if run.start else None
    whole = train(run, data, tmp_path / "whole.pt", teacher, start)
    done = []
    hooks = {"progress": lambda step, *_: done.append(step), "stop": lambda: done[-1] == 4}
    with pytest.raises(StoppedError):
        train(run, data, tmp_path / "cut.pt", teacher, start, **hooks)
    resumed = train(run, data, tmp_path / "cut.pt", teacher, start)
    assert_same_bits(weights(whole), weights(resumed))
    assert whole.curve.equals(resumed.curve)


@pytest.mark.parametrize("method", ["attention_transfer", "distilled"])
def test_on_complex_images_steps_by_answers_at_the_samples_phase_are_steps_by_the_teacher(
    complex_study, tmp_path, method
):
    """On whole slices, whose answers the strips' surroundings don't change."""
    runs = runs_of(complex_study)
    run = scheduled(runs[method].model_copy(update={"precision": "float32", "start": None}), strip=None)
    teacher, data = declared_network(runs["teacher"]), data_of(complex_study.prepared(complex_study.dataset("cardiac")))
    found = {}
    for asked in ("once", "each step"):
        (tmp_path / asked).mkdir()
        declared = run.model_copy(update={"teacher_asked": asked})
        found[asked] = train(declared, data, tmp_path / asked / "x.pt", teacher).curve
    for column in ("training_loss", "validation_psnr", "validation_l1"):
        np.testing.assert_allclose(found["once"][column], found["each step"][column], rtol=1e-4)


def test_asked_to_stop_after_the_last_step_it_is_finished(runs, data, tmp_path):
    done = []
    result = train(
        runs["student"],
        data,
        tmp_path / "x.pt",
        progress=lambda *values: done.append(values),
        stop=lambda: len(done) == 6,
    )
    assert [step for step, _, _ in done] == list(range(1, 7)) and {steps for _, steps, _ in done} == {6}
    assert list(result.curve.step) == [3, 6] and list(result.curve.columns) == list(CURVE_COLUMNS)
    assert [latest.get("step") for _, _, latest in done] == [None, None, 3, 3, 3, 6]


def test_the_teacher_stays_as_it_was(runs, data, tmp_path):
    teacher = declared_network(runs["teacher"])
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    train(runs["attention_transfer"], data, tmp_path / "x.pt", teacher)
    assert_same_bits(before, teacher.state_dict())


@pytest.mark.parametrize("strip", [None, 10])
def test_attentive_losses_see_the_teachers_error_on_every_sample(study, runs, data, tmp_path, monkeypatch, strip):
    """Against the error of each slice or strip, calculated one by one."""
    seen = []
    monkeypatch.setattr(AttentiveHint, "prepare", lambda loss, errors: seen.append(errors) or loss.eta.fill_(1.0))
    run = scheduled(objectives(runs)["attentive hint"], strip=strip, steps=1, validations=1)
    run = run.model_copy(update={"precision": "float32"})
    teacher = declared_network(runs["teacher"]).eval()
    train(run, data, tmp_path / "x.pt", teacher)
    expected = []
    for volume in read_prepared(study.prepared(study.dataset("cardiac")), "train"):
        squared = (
            reconstruct(teacher, declared_operator(run.dataset, run.degradation), volume.image) - volume.image
        ) ** 2
        width = strip or squared.shape[2]
        starts = range(0, squared.shape[2] - width + 1, width)
        expected += [image[:, o : o + width].mean() for image in squared for o in starts]
    np.testing.assert_allclose(sorted(seen[0].tolist()), sorted(expected), rtol=1e-3)


def test_training_lowers_the_loss(runs, data, tmp_path):
    longer = runs["student"].model_copy(update={"schedule": Schedule(steps=60, strip=24, learning_rate=2e-3)})
    curve = train(longer, data, tmp_path / "x.pt").curve
    assert curve.validation_psnr.iloc[-1] > curve.validation_psnr.iloc[0] + 0.3
    assert curve.training_loss.iloc[-1] < curve.training_loss.iloc[0]


def test_steps_are_adams_of_the_gradient_of_the_declared_loss(runs, data):
    """Three steps against PyTorch's own Adam on a network that is called plainly."""
    run = runs["student"].model_copy(update={"precision": "float32"})
    step, network, operator = training_step(run), declared_network(run), declared_operator(run.dataset, run.degradation)
    optimizer = torch.optim.Adam(network.parameters())
    images = data[0][list(range(4))]
    for rate in (1e-3, 5e-4, 2e-4):
        loss = (network(*operator(images)) - images).abs().mean()
        assert step(images, rate) == pytest.approx(float(loss.detach()), rel=1e-5)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for found, expected in zip(step.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def spoiled_after_the_first_validation(step):
    """A progress hook that makes all weights noise after step 4, so that the validation after step 6 is the worse one."""
    noise = torch.Generator().manual_seed(0)

    def progress(done, *_):
        if done == 4:
            for parameter in step.network.parameters():
                parameter.data.normal_(generator=noise)

    return progress


def test_validation_is_the_mean_psnr_of_whole_volumes_and_the_best_weights_are_kept(runs, data, tmp_path):
    """PSNR written out again."""
    run = runs["student"].model_copy(update={"precision": "float32"})
    step = training_step(run)
    network, curve = train_by(step, run, data, tmp_path / "x.pt", progress=spoiled_after_the_first_validation(step))
    assert curve.validation_psnr[1] < curve.validation_psnr[0] - 1
    values = []
    for volume in data[1]:
        image = reconstruct(network, declared_operator(run.dataset, run.degradation), volume.image)
        error = ((image.astype(np.float64) - volume.image) ** 2).mean()
        values.append(10 * np.log10(float(volume.image.max()) ** 2 / error))
    assert np.mean(values) == pytest.approx(curve.validation_psnr[0], abs=1e-3)
    found = validate_network(network, declared_operator(run.dataset, run.degradation), data[1], "float32")
    assert found == pytest.approx(np.mean(values), abs=1e-3)


def test_an_objective_that_judges_no_image_picks_its_checkpoint_itself(runs, data, tmp_path):
    run, teacher = runs["attention_transfer"], declared_network(runs["teacher"])
    step = training_step(run, teacher)
    result = train_by(step, run, data, tmp_path / "x.pt", progress=spoiled_after_the_first_validation(step))
    assert result.curve.validation_objective[1] > 1.1 * result.curve.validation_objective[0]
    again = training_step(run, teacher)
    again.network.load_state_dict(weights(result))
    kept = again.validate([torch.from_numpy(v.image).unsqueeze(1) for v in data[1]])["validation_objective"]
    assert kept == pytest.approx(result.curve.validation_objective[0], rel=1e-4)
    assert train(runs["student"], data, tmp_path / "y.pt").curve.validation_objective.isna().all()


@pytest.mark.parametrize("counts", [(5,), (9, 4), (1, 1), (3, 2, 1)])
def test_the_validated_objective_weighs_slices_alike_whatever_volumes_they_come_in(runs, data, counts):
    """Against the objective of each slice alone, for a loss whose value of a batch is the mean over its samples."""
    step = training_step(runs["attention_transfer"], declared_network(runs["teacher"]))
    generator = torch.Generator().manual_seed(0)
    volumes = [torch.rand(count, 1, 72, 72, generator=generator) for count in counts]
    with torch.no_grad():
        step.network.eval()
        alone = [float(step.loss(slice_[None])[0]) for volume in volumes for slice_ in volume]
    assert step.validate(volumes)["validation_objective"] == pytest.approx(np.mean(alone), rel=2e-2)
    answers = torch.cat([step.ask(volume) for volume in volumes])
    by_answers = step.validate(volumes, answers)["validation_objective"]
    assert by_answers == pytest.approx(step.validate(volumes)["validation_objective"], rel=2e-2)


@pytest.mark.parametrize("loss", ["similarity_preserving", "correlation_congruence"])
@pytest.mark.parametrize("counts", [(5,), (9,), (1, 4), (1, 1)])
def test_losses_between_samples_validate_volumes_of_4n_plus_1_slices(study, loss, counts):
    recipe = study.recipe(SETTING, 0)
    step = training_step(recipe.pretrained(loss), declared_network(recipe.teacher))
    generator = torch.Generator().manual_seed(0)
    found = step.validate([torch.rand(count, 1, 72, 72, generator=generator) for count in counts])
    assert math.isfinite(found["validation_objective"]) and math.isfinite(found["validation_psnr"])


def test_a_loss_that_is_not_finite_stops_and_names_step_and_slices(runs, data, tmp_path):
    broken, validation = data
    broken._held.fill_(float("inf"))
    with pytest.raises(
        NotFiniteError, match=r"the loss is (nan|inf) at step 1; its batch: phantom00\d slice \d, phantom00\d"
    ) as caught:
        train(runs["student"], (broken, validation), tmp_path / "x.pt")
    assert caught.value.rows == [{"step": 1}]
    assert not (tmp_path / "x.pt").exists()


@pytest.mark.parametrize("strip", [None, 10])
def test_slices_read_from_the_file_train_to_the_same_bits_as_those_held_in_memory(study, runs, tmp_path, strip):
    path = study.prepared(study.dataset("cardiac"))
    held, stored = Slices(path, "train"), Slices(path, "train", held_bytes=1000)
    assert held.in_memory and not stored.in_memory
    assert held.names == stored.names and held.shape == stored.shape == (8, 1, 72, 72)
    torch.testing.assert_close(held[[3, 0, 7]], stored[[3, 0, 7]], rtol=0, atol=0)
    run = scheduled(runs["student"], strip=strip, steps=4)
    validation = list(read_prepared(path, "validation"))
    results = [train(run, (s, validation), tmp_path / f"{s.in_memory}.pt") for s in (held, stored)]
    assert_same_bits(*(weights(r) for r in results))


def test_student_friendly_training_moves_all_of_the_teacher_and_of_the_branches(study, data, tmp_path):
    run = study.recipe(SETTING, 0).changed(student_friendly=True).teacher
    before = declared_network(run).state_dict()
    after = train(run, data, tmp_path / "x.pt").network.state_dict()
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith("student.cascades.0."), name


def test_a_run_trains_from_the_weights_that_it_starts_from(runs, data, tmp_path):
    """At a learning rate of next to nothing it ends where it started."""
    run = scheduled(runs["distilled"], learning_rate=1e-30)
    start = declared_network(runs["student"].model_copy(update={"seed": 7}))
    result = train(run, data, tmp_path / "x.pt", declared_network(runs["teacher"]), start)
    assert_same_bits(start.state_dict(), weights(result))
    with pytest.raises(StudyError, match="don't fit the network"):
        begin_from(start, declared_network(runs["teacher"]))


def test_strips_need_lines(runs, data, tmp_path):
    points = runs["student"].model_copy(update={"degradation": Degradation(kind="gaussian_2d", acceleration=4)})
    with pytest.raises(StudyError, match="strips need a mask of whole lines"):
        train(points, data, tmp_path / "x.pt")
    whole = points.model_copy(update={"schedule": Schedule(steps=2, batch=2, validations=1)})
    assert math.isfinite(train(whole, data, tmp_path / "y.pt").curve.validation_psnr[0])


def test_schedules():
    step = Schedule(epochs=150, learning_rate=1e-3, decay="step")
    assert step.total_steps(slices=40) == 1500
    rates = [learning_rate(step, s, 150) for s in (0, 39, 40, 80, 120)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-6])
    cosine = Schedule(steps=10, learning_rate=1.0, decay="cosine")
    assert learning_rate(cosine, 5, 10) == pytest.approx(0.5)
    assert learning_rate(cosine, 0, 10) == 1 and learning_rate(cosine, 10, 10) == pytest.approx(0)
    assert cosine.stretched(2.5).steps == 25
    assert step.stretched(2).total_steps(slices=40) == 3000
    assert {learning_rate(Schedule(steps=3, learning_rate=0.2), s, 3) for s in range(3)} == {0.2}


def test_an_objective_with_a_teacher_needs_one(runs):
    orphan = runs["student"].model_copy(update={"objective": (LossTerm(loss="imitation"),)})
    with pytest.raises(StudyError, match="needs a teacher"):
        training_step(orphan)


def test_nothing_stored_in_a_checkpoint_is_executed(runs, data, tmp_path):
    """One whose checksum is right and whose content is hostile."""
    sprung = tmp_path / "sprung"
    payload = pickle.dumps(Trap(sprung), protocol=2)
    write_bytes(tmp_path / "x.pt", CHECKED_MAGIC + hashlib.sha256(payload).digest() + payload)
    with pytest.raises(StudyError, match=r"x.pt: not a KD-MRI checkpoint"):
        train(runs["student"], data, tmp_path / "x.pt")
    assert not sprung.exists()


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:20], lambda b: b"", lambda b: b[:-9] + b"x" + b[-8:]]
)
def test_a_damaged_checkpoint_is_refused(runs, data, tmp_path, damage):
    path = tmp_path / "x.pt"
    with pytest.raises(StoppedError):
        train(runs["student"], data, path, stop=lambda: True)
    assert len(read_checked(path)) > 1000
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StudyError, match="damaged or not a KD-MRI checkpoint"):
        train(runs["student"], data, path)
