"""Losses against float64 NumPy and hand-computed cases; gradients reach the student and never the teacher."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdmri_lib.declarations import LossTerm
from kdmri_lib.errors import StudyError
from kdmri_lib.losses import LOSSES, Objective, Prediction, build_loss, register
from kdmri_lib.losses.attention_transfer import attention_map

PAIRS = [("t1", "s1"), ("t2", "s2")]


def predictions(seed=0, batch=3, teacher_channels=5, student_channels=2):
    rng = torch.Generator().manual_seed(seed)

    def make(names, channels):
        features = {n: torch.randn(batch, channels, 4, 6, generator=rng).relu().requires_grad_() for n in names}
        return Prediction(torch.rand(batch, 1, 4, 6, generator=rng).requires_grad_(), features)

    return (
        torch.rand(batch, 1, 4, 6, generator=rng),
        make(["s1", "s2"], student_channels),
        make(["t1", "t2"], teacher_channels),
    )


def numpy_attention(student, teacher, variant):
    """Eq. 3, or what the published code computes, in float64 NumPy."""
    total = 0.0
    for t, s in PAIRS:
        q_s, q_t = (
            (p.features[n].detach().double().numpy() ** 2).sum(1).reshape(len(p.image), -1)
            for p, n in ((student, s), (teacher, t))
        )
        if variant == "paper":
            unit = [q / np.linalg.norm(q, axis=1, keepdims=True) for q in (q_s, q_t)]
            total += np.linalg.norm(unit[0] - unit[1], axis=1).mean()
        else:
            unit = [q / np.maximum(np.linalg.norm(q, axis=0, keepdims=True), 1e-12) for q in (q_s, q_t)]
            total += np.abs(unit[0] - unit[1]).mean() / len(PAIRS)
    return total


@pytest.mark.parametrize("variant", ["paper", "released"])
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_attention_transfer_is_equation_3(variant, seed):
    target, student, teacher = predictions(seed)
    loss = build_loss("attention_transfer", pairs=PAIRS, variant=variant)(target, student, teacher).detach()
    assert float(loss) == pytest.approx(numpy_attention(student, teacher, variant), rel=1e-5)


def test_attention_transfer_by_hand():
    """Maps (1, 0) and (0, 1) lie at right angles: the distance of the unit vectors is the root of two."""
    student = Prediction(torch.zeros(1, 1, 1, 2), {"s": torch.tensor([[[[2.0, 0.0]]]])})
    teacher = Prediction(torch.zeros(1, 1, 1, 2), {"t": torch.tensor([[[[0.0, 7.0]]]])})
    loss = build_loss("attention_transfer", pairs=[("t", "s")])(None, student, teacher)
    assert float(loss) == pytest.approx(2**0.5)


@given(st.floats(0.01, 100), st.integers(0, 10**6))
@settings(deadline=None, max_examples=25)
def test_attention_transfer_ignores_the_scale_of_a_map(scale, seed):
    target, student, teacher = predictions(seed)
    scaled = Prediction(student.image, {n: scale * f for n, f in student.features.items()})
    loss = build_loss("attention_transfer", pairs=PAIRS)
    assert float(loss(target, scaled, teacher)) == pytest.approx(float(loss(target, student, teacher)), rel=1e-4)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_attention_transfer_of_identical_and_of_zero_maps(variant):
    loss = build_loss("attention_transfer", pairs=[("x", "x")], variant=variant)
    same = Prediction(torch.zeros(2, 1, 4, 6), {"x": torch.rand(2, 3, 4, 6)})
    assert float(loss(None, same, same)) == 0
    zero = torch.zeros(2, 3, 4, 6, requires_grad=True)
    value = loss(None, Prediction(same.image, {"x": zero}), same)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(zero.grad).all()


def test_attention_map_is_the_channel_sum_of_squares_in_float32():
    feature = torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16).reshape(1, 3, 1, 1)
    assert attention_map(feature).dtype == torch.float32
    assert float(attention_map(feature)) == 14


@pytest.mark.parametrize(("norm", "truth", "imitated"), [("l1", 2.0, 1.0), ("l2", 4.0, 1.0)])
def test_imitation_by_hand(norm, truth, imitated):
    target, student, teacher = (torch.full((1, 1, 2, 2), v) for v in (0.0, 2.0, 3.0))
    arguments = (target, Prediction(student, {}), Prediction(teacher, {}))
    for alpha in (0.0, 0.25, 1.0):
        paper = build_loss("imitation", alpha=alpha, norm=norm)(*arguments)
        assert float(paper) == pytest.approx(alpha * truth + (1 - alpha) * imitated)
    released = build_loss("imitation", alpha=0.25, norm=norm, variant="released")(*arguments)
    assert float(released) == pytest.approx(truth + imitated / 4)
    assert float(build_loss("reconstruction", norm=norm)(*arguments)) == pytest.approx(truth)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_reach_the_student_and_never_the_teacher(name):
    target, student, teacher = predictions()
    options = {"pairs": PAIRS} if name == "attention_transfer" else {}
    loss = build_loss(name, **options)
    loss(target, student, teacher).backward()
    of_student = [student.image.grad, *(f.grad for f in student.features.values())]
    of_teacher = [teacher.image.grad, *(f.grad for f in teacher.features.values())]
    assert any(g is not None and g.abs().sum() > 0 for g in of_student)
    assert all(g is None for g in of_teacher)


def test_objective_adds_terms_with_their_weights_and_knows_what_they_need():
    attention = LossTerm(loss="attention_transfer", weight=3.0, options={"pairs": PAIRS})
    objective = Objective((LossTerm(loss="reconstruction", weight=0.5), attention))
    target, student, teacher = predictions()
    expected = 0.5 * float((student.image - target).abs().mean()) + 3 * numpy_attention(student, teacher, "paper")
    assert float(objective(target, student, teacher)) == pytest.approx(expected, rel=1e-5)
    assert objective.uses_teacher and objective.judges_image
    assert objective.teacher_features == ["t1", "t2"] and objective.student_features == ["s1", "s2"]
    assert not Objective((attention,)).judges_image
    assert not Objective((LossTerm(loss="reconstruction"),)).uses_teacher


def test_unknown_losses_variants_and_options_are_named():
    with pytest.raises(StudyError, match=r"unknown loss 'attention'; known: attention_transfer, imitation"):
        build_loss("attention")
    with pytest.raises(StudyError, match="unknown variant 'papre'"):
        build_loss("imitation", variant="papre")
    with pytest.raises(StudyError, match="beta"):
        build_loss("imitation", beta=1)
    with pytest.raises(StudyError, match="alpha is 2"):
        build_loss("imitation", alpha=2)


def test_a_loss_of_ones_own_is_found_by_its_name():
    @register("constant_for_this_test")
    class Constant(nn.Module):
        uses_teacher, judges_image, pairs = False, True, ()

        def forward(self, target, student, teacher):
            return student.image.mean() * 0 + 7

    try:
        objective = Objective((LossTerm(loss="constant_for_this_test"),))
        assert float(objective(*predictions())) == 7
    finally:
        del LOSSES["constant_for_this_test"]
