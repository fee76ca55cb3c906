"""An objective: the weighted sum, what it needs, and losses of one's own in it."""

import pytest
import torch

from kdmri_lib.declarations import LossTerm
from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import LOSSES, Loss
from kdmri_lib.losses.objective import Objective
from tests.unit.losses import definitions
from tests.unit.losses.made import ERRORS, PAIRS, predictions


def test_objective_adds_terms_with_their_weights_and_knows_what_they_need():
    attention = LossTerm(loss="attention_transfer", weight=3.0, options={"pairs": PAIRS})
    objective = Objective((LossTerm(loss="reconstruction", weight=0.5), attention))
    target, student, teacher = predictions()
    truth = float((student.image - target).abs().mean().detach())
    expected = 0.5 * truth + 3 * definitions.attention(student, teacher, "paper")
    assert float(objective(target, student, teacher).detach()) == pytest.approx(expected, rel=1e-5)
    assert objective.uses_teacher and objective.judges_image
    assert objective.teacher_features == ["t1", "t2"] and objective.network_features == ["s1", "s2"]
    assert not Objective((attention,)).judges_image
    assert not Objective((LossTerm(loss="reconstruction"),)).uses_teacher


def test_an_objective_without_a_teacher_is_computed_without_one():
    target, student, _ = predictions()
    objective = Objective((LossTerm(loss="reconstruction", options={"norm": "l2"}),))
    expected = float((student.image - target).square().mean().detach())
    assert float(objective(target, student, None).detach()) == pytest.approx(expected)
    assert objective.teacher_features == objective.network_features == []


def test_a_feature_that_two_losses_want_is_asked_for_once():
    terms = [LossTerm(loss=name, options={"pairs": PAIRS}) for name in ("fitnets", "similarity_preserving")]
    objective = Objective(terms)
    assert objective.teacher_features == ["t1", "t2"] and objective.network_features == ["s1", "s2"]


def test_every_loss_that_wants_the_teachers_errors_gets_them_and_keeps_them_in_its_state():
    hint = LossTerm(loss="attentive_hint", options={"pairs": PAIRS})
    objective = Objective((hint, LossTerm(loss="reconstruction"), hint))
    assert objective.needs_teacher_errors and not Objective((LossTerm(loss="imitation"),)).needs_teacher_errors
    objective.prepare(ERRORS)
    again = Objective((hint, LossTerm(loss="reconstruction"), hint))
    again.load_state_dict(objective.state_dict())
    values = predictions(teacher_channels=2)
    assert torch.equal(again(*values), objective(*values))


def test_a_losss_parameters_are_the_objectives():
    fitnets = LossTerm(loss="fitnets", options={"pairs": PAIRS, "channels": [[5, 2], [5, 2]]})
    assert sum(p.numel() for p in Objective((fitnets,)).parameters()) == 2 * (5 * 2 + 5)


def test_what_is_wrong_with_a_term_is_named():
    with pytest.raises(StudyError, match="loss 'imitation', option 'alpha'"):
        Objective((LossTerm(loss="reconstruction"), LossTerm(loss="imitation", options={"alpha": 2})))


def test_a_loss_of_ones_own_is_found_by_its_name():
    @LOSSES.register("constant_for_this_test")
    class Constant(Loss):
        uses_teacher, judges_image = False, True

        def forward(self, target, prediction, teacher):
            return prediction.image.mean() * 0 + 7

    try:
        objective = Objective((LossTerm(loss="constant_for_this_test"),))
        assert float(objective(*predictions()).detach()) == 7
        assert "constant_for_this_test" in LOSSES.all()
    finally:
        LOSSES.remove("constant_for_this_test")
    with pytest.raises(StudyError, match="unknown loss 'constant_for_this_test'"):
        Objective((LossTerm(loss="constant_for_this_test"),))
