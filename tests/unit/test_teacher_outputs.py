"""A teacher that is asked once: what of it is cached, that a step by that is a step by the teacher, and its file."""

import errno
import os

import numpy as np
import pytest
import torch

from kdmri_lib.declarations import LossTerm
from kdmri_lib.declared import declared_network, training_step
from kdmri_lib.errors import UnwritableError
from kdmri_lib.losses.base import Prediction
from kdmri_lib.losses.objective import Objective
from kdmri_lib.teacher_outputs import cached
from kdmri_study.profile import Study
from tests.studies import SETTING

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


def prediction(rng, features):
    def random(channels):
        return torch.from_numpy(rng.standard_normal((3, channels, 12, 10)).astype(np.float32))

    return Prediction(random(1), {name: random(5) for name in features})


@pytest.mark.parametrize("names", OBJECTIVES)
def test_an_objective_is_the_same_by_the_teachers_answers_as_by_the_teacher(names):
    """To float32: a map is the square of its root."""
    rng = np.random.default_rng(0)
    objective = Objective([TERMS[name] for name in names])
    assert objective.asks_once and not Objective([TERMS[name] for name in (*names, "fitnets")]).asks_once
    student, teacher = prediction(rng, objective.network_features), prediction(rng, objective.teacher_features)
    target = prediction(rng, []).image
    answers = objective.answers(teacher)
    maps = sum(2 for name in names if name in ("attention_transfer", "released"))
    assert answers.shape == (3, 1 + maps, 12, 10) and answers.dtype == torch.float32
    live, cached = (objective(target, student, shown) for shown in (teacher, answers))
    assert cached.item() == pytest.approx(live.item(), rel=1e-5) and live.item() != 0


@pytest.fixture
def images():
    return torch.rand(6, 1, 72, 72, generator=torch.Generator().manual_seed(0))


def doubling(target, known):
    """Asked of a teacher that doubles."""
    return torch.cat([torch.cat([target[:known], 2 * target[known:]]), target], dim=1)


@pytest.mark.parametrize("held_bytes", [10**9, 1000])
@pytest.mark.parametrize("known", [0, 1, 4, 5, 6])
def test_what_is_cached_is_of_every_slice_and_where_the_true_image_is_known_it(images, tmp_path, known, held_bytes):
    """In memory, or where that is too little in a file."""
    file = tmp_path / "outputs.f32"
    outputs = cached(doubling, images, known, file, held_bytes)
    assert outputs.shape == (6, 2, 72, 72) and outputs.dtype == torch.float32 and file.exists() == (held_bytes == 1000)
    expected = torch.cat([torch.cat([images[:known], 2 * images[known:]]), images], dim=1)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(outputs[[4, 1]], expected[[4, 1]])


def test_a_student_without_truth_learns_from_the_teachers_images_alone(images):
    """What stands where the true image would, it never looks at; of the first two slices, whose truth is known, it does."""
    run = Study("smoke").recipe(SETTING, 0).taught(alpha=0).model_copy(update={"precision": "float32"})
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


def test_a_full_disk_is_one_message_and_leaves_nothing(images, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(UnwritableError, match=r"outputs.f32: can't be written \(No space left on device\)"):
        cached(doubling, images, 0, tmp_path / "outputs.f32", held_bytes=0)
    assert not list(tmp_path.iterdir())
