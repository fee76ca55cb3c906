"""A teacher that is asked once: what its answers hold, that a step by them is a step by the teacher, and their file."""

import errno
import os

import numpy as np
import pytest
import torch

from kdmri_lib.answers import FILE, Answers, answered, forget
from kdmri_lib.batches import Batches
from kdmri_lib.declarations import LossTerm
from kdmri_lib.errors import StudyError, UnwritableError
from kdmri_lib.losses.base import Prediction
from kdmri_lib.losses.objective import Objective
from kdmri_lib.storage import read_json, write_json
from kdmri_study.build import declared_network, training_step
from kdmri_study.study import Study
from tests.studies import CELL

CPU = torch.device("cpu")
PAIRS = [["cascade1.convolution3", "cascade1.convolution2"], ["cascade2.convolution3", "cascade2.convolution2"]]
TERMS = {
    "attention_transfer": LossTerm(loss="attention_transfer", options={"pairs": PAIRS}),
    "released": LossTerm(loss="attention_transfer", options={"pairs": PAIRS, "variant": "released"}),
    "imitation": LossTerm(loss="imitation"),
    "reconstruction": LossTerm(loss="reconstruction"),
    "fitnets": LossTerm(loss="fitnets", options={"pairs": PAIRS}),
}
OBJECTIVES = [
    ("attention_transfer",),
    ("released",),
    ("imitation",),
    ("reconstruction", "attention_transfer", "imitation"),
]


def prediction(rng, features, channels=5, count=3):
    def random(c):
        return torch.from_numpy(rng.standard_normal((count, c, 12, 10)).astype(np.float32))

    return Prediction(random(1), {name: random(channels) for name in features})


@pytest.mark.parametrize("names", OBJECTIVES)
def test_an_objective_is_the_same_by_the_teachers_answers_as_by_the_teacher(names):
    """To float32: a map is the square of its root."""
    rng = np.random.default_rng(0)
    objective = Objective([TERMS[name] for name in names])
    assert objective.asks_once
    student, teacher = prediction(rng, objective.network_features), prediction(rng, objective.teacher_features)
    target = prediction(rng, []).image
    answers = objective.answers(teacher)
    maps = sum(2 for name in names if name in ("attention_transfer", "released"))
    assert answers.shape == (3, maps + ("imitation" in names), 12, 10) and answers.dtype == torch.float32
    live, cached = (objective(target, student, shown) for shown in (teacher, answers))
    assert cached.item() == pytest.approx(live.item(), rel=1e-5) and live.item() != 0


@pytest.mark.parametrize("names", [("fitnets",), ("fitnets", "imitation"), ("reconstruction",)])
def test_what_needs_whole_maps_or_no_teacher_does_not_ask_once(names):
    assert not Objective([TERMS[name] for name in names]).asks_once


@pytest.fixture(scope="module")
def recipe():
    return Study("smoke").recipe(CELL, 0)


@pytest.fixture
def images():
    return torch.rand(6, 1, 72, 72, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", ["pretrained", "distilled"])
def test_on_whole_slices_a_step_by_the_answers_is_the_step_by_the_teacher(recipe, images, tmp_path, make):
    """On strips they differ, by the teacher's view beyond the strip: that is the difference that is meant."""
    run = (recipe.pretrained() if make == "pretrained" else recipe.distilled(None)).model_copy(
        update={"precision": "float32"}
    )
    teacher = declared_network(recipe.teacher)
    once, live = (
        training_step(run.model_copy(update={"teacher_asked": asked}), teacher) for asked in ("once", "each step")
    )
    assert once.asks_once and not live.asks_once
    batches = Batches(images, 2, seed=0)
    answers = answered(tmp_path, once.ask, images, "x", CPU)
    for number in range(3):
        by_answers = once(batches(number), 1e-3, batches.cut(answers, number))
        assert by_answers == pytest.approx(live(batches(number), 1e-3), rel=1e-4)


def test_strips_of_answers_lie_where_the_images_strips_lie():
    images = torch.arange(6 * 12 * 10.0).reshape(6, 1, 12, 10)
    maps = torch.cat([images, -images], dim=1)
    batches = Batches(images, 3, seed=1, strip=4, axis=3)
    for number in range(5):
        cut = batches.cut(maps, number)
        assert cut.shape == (3, 2, 12, 4)
        torch.testing.assert_close(cut[:, :1], batches(number))
        torch.testing.assert_close(cut[:, 1:], -batches(number))


def asked(images, folder, origin="origin", count=None, **more):
    """`answered` by a teacher that doubles, and how many slices it was asked for."""
    seen = []

    def ask(target, known):
        seen.append(len(target))
        return torch.cat([torch.cat([target[:known], 2 * target[known:]]), target], dim=1)

    return answered(folder, ask, images, origin, CPU, **more), sum(seen)


def test_answers_are_asked_once_and_read_again(images, tmp_path):
    first, count = asked(images, tmp_path)
    assert count == 6 and first.shape == (6, 2, 72, 72)
    torch.testing.assert_close(first[[4, 1]], torch.cat([2 * images, images], dim=1)[[4, 1]])
    again, count = asked(images, tmp_path)
    assert count == 0
    torch.testing.assert_close(again[3], first[3])
    forget(tmp_path)
    assert not list(tmp_path.iterdir()) and asked(images, tmp_path)[1] == 6
    forget(tmp_path / "nothing")


@pytest.mark.parametrize("known", [0, 1, 4, 5, 6])
def test_where_the_true_image_is_known_it_is_the_answer(images, tmp_path, known):
    answers, _ = asked(images, tmp_path, known=known)
    torch.testing.assert_close(answers[list(range(6))][:, :1], torch.cat([images[:known], 2 * images[known:]]))


def test_a_student_without_truth_learns_from_the_teachers_images_alone(recipe, images, tmp_path):
    """What stands where the true image would, it never looks at; of the first two slices, whose truth is known, it does."""
    run = recipe.taught(alpha=0).model_copy(update={"precision": "float32"})
    teacher = declared_network(run.teacher)
    step = training_step(run, teacher)
    assert not step.objective.judges_image and not step.objective.uses_truth
    answers = step.ask(images, known=2)
    torch.testing.assert_close(answers[:2], images[:2])
    with torch.no_grad():
        predicted = teacher.eval()(*step.operator(images))
    torch.testing.assert_close(answers[2:], predicted[2:], rtol=1e-4, atol=1e-5)
    _, image = step.loss(images, answers)
    expected = (image - answers).abs().mean()
    for truth in (images, torch.full_like(images, torch.nan)):
        loss = step.objective(truth, Prediction(image, {}), answers)
        torch.testing.assert_close(loss, expected)


def test_answers_too_large_to_hold_are_read_from_their_file(images, tmp_path):
    held, _ = asked(images, tmp_path)
    mapped = Answers(tmp_path / FILE, CPU, held_bytes=0)
    torch.testing.assert_close(mapped[[5, 0]], held[[5, 0]])
    torch.testing.assert_close(mapped[2], held[2])


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def altered(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "cut short or altered"),
        (altered, "cut short or altered"),
        (lambda path: path.with_suffix(".json").unlink(), "nothing says what it holds"),
        (lambda path: write_json(path.with_suffix(".json"), {"origin": "other", "sha256": ""}), "of another teacher"),
    ],
)
def test_answers_that_cannot_be_trusted_are_asked_for_again_and_that_is_said(images, tmp_path, capsys, damage, message):
    whole, _ = asked(images, tmp_path)
    damage(tmp_path / FILE)
    again, count = asked(images, tmp_path)
    assert count == 6 and f"{FILE}: {message}" in capsys.readouterr().err
    torch.testing.assert_close(again[1], whole[1])
    assert read_json(tmp_path / "teacher_answers.json")["origin"] == "origin"


def test_another_teacher_is_asked_again(images, tmp_path, capsys):
    asked(images, tmp_path)
    assert asked(images, tmp_path, origin="another")[1] == 6
    assert "of another teacher, or of other images or losses" in capsys.readouterr().err


def test_a_full_disk_is_one_message_and_leaves_nothing(images, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(UnwritableError, match=rf"{FILE}: can't be written \(No space left on device\)"):
        asked(images, tmp_path)
    assert not list(tmp_path.iterdir())


def test_losses_between_samples_refuse_a_batch_of_one_before_training(recipe, tmp_path, study):
    from tests.trainings import data_of, train

    data = data_of(study.prepared("cardiac"))
    for run in (recipe.pretrained(variant="released"), recipe.pretrained("similarity_preserving")):
        single = run.model_copy(update={"schedule": run.schedule.model_copy(update={"batch": 1})})
        with pytest.raises(
            StudyError, match="compares samples with one another, and a batch holds 1; expected at least 2"
        ):
            train(single, data, tmp_path / "checkpoint.pt", declared_network(recipe.teacher))
