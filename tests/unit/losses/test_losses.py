"""Losses against float64 NumPy and hand-computed cases, and the objective that adds them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.declarations import LossTerm
from kdmri_lib.errors import StudyError
from kdmri_lib.losses.attention_transfer import attention_map
from kdmri_lib.losses.base import LOSSES, Prediction, build_loss
from kdmri_lib.losses.objective import Objective
from tests.unit.losses import definitions
from tests.unit.losses.made import ERRORS, FEATURE_LOSSES, OPTIONS, PAIRS, made, predictions


def test_every_registered_loss_is_tested_here():
    assert set(OPTIONS) == set(LOSSES.all())


@pytest.mark.parametrize("variant", ["paper", "released"])
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_attention_transfer_is_equation_3(variant, seed):
    target, student, teacher = predictions(seed)
    loss = build_loss("attention_transfer", pairs=PAIRS, variant=variant)(target, student, teacher).detach()
    assert float(loss) == pytest.approx(definitions.attention(student, teacher, variant), rel=1e-5)


def test_attention_map_is_the_channel_sum_of_squares_in_float32_and_its_gradient_that_of_it():
    """By finite differences in float64; in bfloat16 to its precision."""
    three = torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16).reshape(1, 3, 1, 1)
    assert attention_map(three).dtype == torch.float32 and float(attention_map(three)) == pytest.approx(14, rel=1e-6)
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention_map, (feature,))
    gradients = []
    for dtype in (torch.float64, torch.bfloat16):
        given = feature.detach().to(torch.bfloat16).to(dtype).requires_grad_()
        attention_map(given).sin().sum().backward()
        gradients.append(given.grad.double())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=2e-2, atol=2e-3)


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


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_student_friendly_by_hand(variant):
    """Teacher off by 1, branches off by 2 and 3: 1 + (2 + 3) / 2 + (1 + 2) / 2, the last over 4 pixels as released."""
    target = torch.zeros(2, 1, 1, 2)
    student = Prediction(target + 1, {"s1": target + 2, "s2": target + 3})
    loss = build_loss("student_friendly", branches=["s1", "s2"], variant=variant)
    assert loss.network_features == ["s1", "s2"] and loss.teacher_features == []
    assert float(loss(target, student)) == pytest.approx(1 + 2.5 + 1.5 / (1 if variant == "paper" else 4))


@pytest.mark.parametrize("name", sorted({*FEATURE_LOSSES} - {"attention_transfer"}))
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_feature_losses_are_as_their_authors_define_them(name, seed, batch):
    values = predictions(seed, batch=batch, teacher_channels=3, student_channels=3)
    assert float(made(name)(*values).detach()) == pytest.approx(definitions.of_features(name, *values), rel=1e-4)


@pytest.mark.parametrize("kernel", [1, 3])
def test_fitnets_compares_after_its_regressor_where_channels_differ(kernel):
    """Pair by pair: the first differs in channels, the second doesn't and is compared as it is. The regressor trains."""
    target, student, teacher = predictions(teacher_channels=2)
    teacher.features["t1"] = torch.rand(3, 5, 4, 6)
    loss = build_loss("fitnets", pairs=PAIRS, channels=[[5, 2], [2, 2]], kernel=kernel)
    (weight, bias) = loss.parameters()
    matched = torch.nn.functional.conv2d(student.features["s1"], weight, bias, padding=kernel // 2)
    expected = ((matched - teacher.features["t1"]) ** 2).mean() / 2
    expected += ((student.features["s2"] - teacher.features["t2"]) ** 2).mean() / 2
    found = loss(target, student, teacher)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert weight.shape == (5, 2, kernel, kernel) and weight.grad.any() and bias.grad.any()


@pytest.mark.parametrize("error", [0.5, 1.0])
def test_attentive_hint_has_no_trust_in_a_teacher_as_wrong_as_eta_or_worse(error):
    """At eta, and twice as wrong: no trust, not a negative one."""
    _, student, teacher = predictions(teacher_channels=2)
    target = teacher.image.detach() + error**0.5
    assert float(made("attentive_hint")(target, student, teacher).detach()) == pytest.approx(0, abs=1e-6)
    assert float(made("attentive_hint")(teacher.image.detach(), student, teacher).detach()) > 0.1


def test_held_out_lines_by_hand_and_nothing_beside_them():
    """Half of the first sample's norm is missed, all of the second's: the mean is three quarters."""
    target = torch.tensor([[[[3.0, 4.0]]], [[[0.0, 2.0]]]])
    predicted = Prediction(torch.tensor([[[[1.5, 2.0]]], [[[0.0, 0.0]]]]), {})
    assert float(build_loss("held_out_lines")(target, predicted)) == pytest.approx(0.75)
    with pytest.raises(StudyError, match="an objective holds lines out, and has other losses"):
        Objective([LossTerm(loss="held_out_lines"), LossTerm(loss="reconstruction")])


def test_an_objective_adds_terms_with_their_weights_and_knows_what_they_need():
    attention = LossTerm(loss="attention_transfer", weight=3.0, options={"pairs": PAIRS})
    fitnets = LossTerm(loss="fitnets", options={"pairs": PAIRS, "channels": [[5, 2], [5, 2]]})
    objective = Objective((LossTerm(loss="reconstruction", weight=0.5), attention))
    target, student, teacher = predictions()
    truth = float((student.image - target).abs().mean().detach())
    expected = 0.5 * truth + 3 * definitions.attention(student, teacher, "paper")
    assert float(objective(target, student, teacher).detach()) == pytest.approx(expected, rel=1e-5)
    assert objective.uses_teacher and objective.judges_image and objective.asks_once
    alone = Objective((LossTerm(loss="reconstruction"),))
    assert not (alone.uses_teacher or alone.asks_once or alone.teacher_features or alone.network_features)
    assert float(alone(target, student, None).detach()) == pytest.approx(truth)
    both = Objective((attention, fitnets))
    assert not both.judges_image and not both.asks_once, "of whole maps"
    assert both.teacher_features == ["t1", "t2"] and both.network_features == ["s1", "s2"], "each once"
    assert sum(p.numel() for p in both.parameters()) == 2 * (5 * 2 + 5), "a loss's parameters are the objective's"


def test_every_loss_that_wants_the_teachers_errors_gets_them_and_keeps_them_in_its_state():
    hint = LossTerm(loss="attentive_hint", options={"pairs": PAIRS})
    objective, again = (Objective((hint, LossTerm(loss="reconstruction"), hint)) for _ in range(2))
    assert objective.needs_teacher_errors and not Objective((LossTerm(loss="imitation"),)).needs_teacher_errors
    objective.prepare(ERRORS)
    again.load_state_dict(objective.state_dict())
    values = predictions(teacher_channels=2)
    assert torch.equal(again(*values), objective(*values))
