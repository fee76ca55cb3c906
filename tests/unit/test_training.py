"""Training: the same bits for the same seed, also when it was stopped and resumed; checkpoints as data."""

import math
import pickle

import numpy as np
import pytest
import torch

from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.declarations import LossTerm, Run, Schedule, Undersampling
from kdmri_lib.declared import declared_network, declared_operator, training_step
from kdmri_lib.errors import StoppedError, StudyError
from kdmri_lib.evaluation import reconstruct
from kdmri_lib.losses.attentive_hint import AttentiveHint
from kdmri_lib.storage import write_checked
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


def changed(run, **changes):
    """A run whose schedule, or anything else of it, is another."""
    schedule = {k: v for k, v in changes.items() if k in Schedule.model_fields}
    whole = {k: v for k, v in changes.items() if k not in schedule}
    return run.model_copy(update={"schedule": run.schedule.model_copy(update=schedule), **whole})


def objectives(runs):
    """By name: runs with a teacher, one with a start, one whose loss has parameters of its own, one that keeps eta."""
    transfer = runs["attention_transfer"]
    pairs = transfer.objective[0].options["pairs"]
    regressed = LossTerm(loss="fitnets", options={"pairs": pairs, "channels": [[8, 5]] * 2, "kernel": 3})
    narrow = runs["student"].network.model_copy(update={"options": {**runs["student"].network.options, "features": 5}})
    hint = LossTerm(loss="attentive_hint", options={"pairs": pairs})
    return runs | {
        "fitnets, with regressors": changed(transfer, network=narrow, objective=(regressed,)),
        "attentive hint": changed(transfer, objective=(hint,)),
        "expanded": changed(runs["student"], expansion=7),
        "averaged": changed(runs["student"], averaging=0.5),
        "thinnable": changed(runs["teacher"], network=runs["teacher"].network.model_copy(update={"kind": "thinnable"})),
        "held-out lines": changed(runs["student"], objective=(LossTerm(loss="held_out_lines"),)),
    }


CASES = [
    *(("study", "distilled", last) for last in (1, 3, 5)),  # before, at and after a validation
    *(
        ("study", method, 4)
        for method in ("fitnets, with regressors", "attentive hint", "expanded", "averaged", "thinnable")
    ),
    # The phases that samples are turned by come again too, those of the teacher's answers with them.
    *(("complex_study", method, 4) for method in ("attention_transfer", "distilled", "held-out lines")),
]


@pytest.mark.parametrize(("images", "method", "last"), CASES)
def test_stopped_and_resumed_equals_uninterrupted(request, tmp_path, images, method, last):
    """Bit by bit."""
    study = request.getfixturevalue(images)
    runs, data = runs_of(study), data_of(study.prepared(study.dataset("cardiac")))
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
    step = training_step(changed(runs["student"], averaging=0.9))
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
    run = changed(runs["student"], objective=(LossTerm(loss="held_out_lines"),), precision="float32")
    domain = "complex" if channels == 2 else None
    step = training_step(run.model_copy(update={"dataset": run.dataset.model_copy(update={"domain": domain})}))
    target = data[0][[0, 1]].expand(-1, channels, -1, -1).clone()
    held = step.operator.split(0.4, np.random.default_rng(5))[1]
    other = target + held.left(torch.randn_like(target))[:, :channels]
    results = [step.loss(image, draw=np.random.default_rng(5)) for image in (target, other)]
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)
    image = results[0][1]
    for (loss, _), truth in zip(results, (target, other), strict=True):
        left, norm = held.left(truth - image).flatten(1).norm(dim=1), held.left(truth).flatten(1).norm(dim=1)
        assert loss.item() == pytest.approx((left / norm).mean().item(), rel=1e-4)
    of_all = predict(step.processor, step.network, step.operator(target)).image
    assert not torch.equal(image, of_all), "of fewer lines than measured"


POINTS = Undersampling(kind="gaussian_2d", acceleration=4)
RELATES = LossTerm(
    loss="similarity_preserving", options={"pairs": [["cascade1.convolution3", "cascade1.convolution2"]]}
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truths": 2}, "true images of 2 of .* slices, and an objective that looks at them"),
        ({"objective": (LossTerm(loss="imitation"),), "teacher": None}, "needs a teacher and none is given"),
        ({"objective": (RELATES,), "batch": 1}, "its loss compares samples with one another, and a batch holds 1"),
        ({"undersampling": POINTS}, "strips need a mask of whole lines"),
    ],
)
def test_trainings_that_cannot_be_are_refused_before_they_begin(runs, data, tmp_path, changes, message):
    run = changed(runs["distilled"], start=None, **changes)
    teacher = declared_network(run.teacher) if run.teacher else None
    with pytest.raises(StudyError, match=message):
        train(run, data, tmp_path / "x.pt", teacher, truths=run.truths)


@pytest.mark.parametrize("images", ["study", "complex_study"])
@pytest.mark.parametrize("method", ["attention_transfer", "distilled"])
def test_steps_by_answers_are_steps_by_the_teacher(request, tmp_path, method, images):
    """On whole slices; on strips they differ, by the teacher's view beyond the strip. Complex ones at the same phase."""
    study = request.getfixturevalue(images)
    runs, data = runs_of(study), data_of(study.prepared(study.dataset("cardiac")))
    run, teacher = changed(runs[method], precision="float32", start=None, strip=None), declared_network(runs["teacher"])
    found = {}
    for asked in ("once", "each step"):
        (tmp_path / asked).mkdir()
        declared = changed(run, teacher_asked=asked)
        found[asked] = train(declared, data, tmp_path / asked / "x.pt", teacher).curve
    for column in ("training_loss", "validation_psnr", "validation_l1"):
        np.testing.assert_allclose(found["once"][column], found["each step"][column], rtol=1e-4)


def test_asked_to_stop_after_the_last_step_it_is_finished(runs, data, tmp_path):
    done = []
    hooks = {"progress": lambda *values: done.append(values), "stop": lambda: len(done) == 6}
    result = train(runs["student"], data, tmp_path / "x.pt", **hooks)
    assert [step for step, _, _ in done] == list(range(1, 7)) and {steps for _, steps, _ in done} == {6}
    assert list(result.curve.step) == [3, 6] and list(result.curve.columns) == list(CURVE_COLUMNS)
    assert [latest.get("step") for _, _, latest in done] == [None, None, 3, 3, 3, 6]


@pytest.mark.parametrize("strip", [None, 10])
def test_attentive_losses_see_the_teachers_error_on_every_sample(study, runs, data, tmp_path, monkeypatch, strip):
    """Against the error of each slice or strip, calculated one by one."""
    seen = []
    monkeypatch.setattr(AttentiveHint, "prepare", lambda loss, errors: seen.append(errors) or loss.eta.fill_(1.0))
    run = changed(objectives(runs)["attentive hint"], strip=strip, steps=1, validations=1, precision="float32")
    teacher = declared_network(runs["teacher"]).eval()
    train(run, data, tmp_path / "x.pt", teacher)
    expected = []
    operator = declared_operator(run.dataset, run.undersampling)
    for volume in read_prepared(study.prepared(study.dataset("cardiac")), "train"):
        squared = (reconstruct(teacher, operator, volume.image) - volume.image) ** 2
        width = strip or squared.shape[2]
        starts = range(0, squared.shape[2] - width + 1, width)
        expected += [image[:, o : o + width].mean() for image in squared for o in starts]
    np.testing.assert_allclose(sorted(seen[0].tolist()), sorted(expected), rtol=1e-3)


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
    run = changed(runs["student"], precision="float32")
    step = training_step(run)
    network, curve = train_by(step, run, data, tmp_path / "x.pt", progress=spoiled_after_the_first_validation(step))
    assert curve.validation_psnr[1] < curve.validation_psnr[0] - 1
    values = []
    for volume in data[1]:
        image = reconstruct(network, declared_operator(run.dataset, run.undersampling), volume.image)
        error = ((image.astype(np.float64) - volume.image) ** 2).mean()
        values.append(10 * np.log10(float(volume.image.max()) ** 2 / error))
    assert np.mean(values) == pytest.approx(curve.validation_psnr[0], abs=1e-3)
    found = validate_network(network, declared_operator(run.dataset, run.undersampling), data[1], "float32")
    assert found == pytest.approx(np.mean(values), abs=1e-3)


def test_without_steps_what_a_run_starts_from_is_judged_as_it_is(runs, data, tmp_path):
    start = declared_network(runs["teacher"])
    run = changed(runs["teacher"], steps=0, start=runs["teacher"])
    network, curve = train(run, data, tmp_path / "x.pt", start=start)
    assert_same_bits(start.state_dict(), network.state_dict())
    operator = declared_operator(run.dataset, run.undersampling)
    assert curve.step.tolist() == [0] and curve.validation_psnr[0] == validate_network(
        start, operator, data[1], "float32"
    )
    with pytest.raises(ValueError, match="no steps, and no run to start from"):
        Run(**changed(runs["student"], steps=0).model_dump())


def test_an_objective_that_judges_no_image_picks_its_checkpoint_itself(runs, data, tmp_path):
    run, teacher = runs["attention_transfer"], declared_network(runs["teacher"])
    step = training_step(run, teacher)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    result = train_by(step, run, data, tmp_path / "x.pt", progress=spoiled_after_the_first_validation(step))
    assert_same_bits(before, teacher.state_dict())
    assert result.curve.validation_objective[1] > 1.1 * result.curve.validation_objective[0]
    again = training_step(run, teacher)
    again.network.load_state_dict(weights(result))
    kept = again.validate([torch.from_numpy(v.image).unsqueeze(1) for v in data[1]])["validation_objective"]
    assert kept == pytest.approx(result.curve.validation_objective[0], rel=1e-4)
    assert train(runs["student"], data, tmp_path / "y.pt").curve.validation_objective.isna().all()


@pytest.mark.parametrize("counts", [(9, 4), (3, 2, 1)])
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


@pytest.mark.parametrize("counts", [(9,), (1, 4), (1, 1)])
def test_losses_between_samples_validate_volumes_of_4n_plus_1_slices(study, counts):
    recipe = study.recipe(SETTING, 0)
    step = training_step(recipe.pretrained("similarity_preserving"), declared_network(recipe.teacher))
    generator = torch.Generator().manual_seed(0)
    found = step.validate([torch.rand(count, 1, 72, 72, generator=generator) for count in counts])
    assert math.isfinite(found["validation_objective"]) and math.isfinite(found["validation_psnr"])


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


def test_nothing_stored_in_a_checkpoint_is_executed_and_a_damaged_one_is_refused(runs, data, tmp_path):
    path, sprung = tmp_path / "x.pt", tmp_path / "sprung"
    write_checked(path, pickle.dumps(Trap(sprung), protocol=2))  # its checksum is right and its content hostile
    with pytest.raises(StudyError, match=r"x.pt: not a KD-MRI checkpoint"):
        train(runs["student"], data, path)
    assert not sprung.exists()
    path.unlink()
    with pytest.raises(StoppedError):
        train(runs["student"], data, path, stop=lambda: True)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:20], b"", whole[:-9] + b"x" + whole[-8:]):
        path.write_bytes(damaged)
        with pytest.raises(StudyError, match="damaged or not a KD-MRI checkpoint"):
            train(runs["student"], data, path)
