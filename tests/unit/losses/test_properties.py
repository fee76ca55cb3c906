"""What holds for all losses: gradients reach the student alone, zeros stay finite; bad use is named."""

import pytest
import torch

from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import LOSSES, Prediction, build_loss
from kdmri_lib.masks import cartesian_mask
from kdmri_lib.models.base import build_model
from tests.unit.losses.made import FEATURE_LOSSES, OPTIONS, PAIRS, made, predictions


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_gradients_reach_the_student_and_never_the_teacher(name):
    target, student, teacher = predictions(teacher_channels=2, student_channels=1 if name == "student_friendly" else 2)
    made(name)(target, student, teacher).backward()
    of_student = [student.image.grad, *(f.grad for f in student.features.values())]
    of_teacher = [teacher.image.grad, *(f.grad for f in teacher.features.values())]
    assert any(g is not None and g.abs().sum() > 0 for g in of_student)
    assert all(g is None for g in of_teacher)


@pytest.mark.parametrize("options", [*({"loss": name} for name in FEATURE_LOSSES), {"variant": "released"}])
def test_identical_maps_give_zero_and_zero_maps_a_finite_gradient(options):
    rng = torch.Generator().manual_seed(0)
    loss = made(**{"loss": "attention_transfer", **options})
    maps = {n: torch.rand(3, 2, 4, 6, generator=rng) for n in ("1", "2")}
    image = torch.rand(3, 1, 4, 6, generator=rng)
    teacher = Prediction(image, {f"t{n}": m for n, m in maps.items()})
    same = Prediction(image, {f"s{n}": m for n, m in maps.items()})
    assert float(loss(image, same, teacher)) == pytest.approx(0, abs=1e-10)
    zero = {f"s{n}": torch.zeros(3, 2, 4, 6, requires_grad=True) for n in maps}
    value = loss(image, Prediction(image, zero), teacher)
    value.backward()
    assert torch.isfinite(value) and all(torch.isfinite(z.grad).all() for z in zero.values())


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: made("similarity_preserving")(*predictions(batch=1)), "needs a batch of at least 2"),
        (lambda: made("correlation_congruence")(*predictions(batch=1)), "needs a batch of at least 2"),
        (lambda: made("attention_transfer", variant="released")(*predictions(batch=1)), "needs a batch of at least 2"),
        (lambda: made("fitnets")(*predictions()), "give `channels`"),
        (lambda: made("fitnets", channels=[(5, 2)]), "1 channels for 2 pairs"),
        (lambda: build_loss("attentive_hint", pairs=PAIRS)(*predictions(student_channels=5)), "before it saw the teac"),
        (lambda: build_loss("attentive_hint", pairs=PAIRS).prepare(torch.ones(4)), "eta would be 0"),
    ],
)
def test_what_a_loss_cannot_do_is_said(use, message):
    with pytest.raises(StudyError, match=message):
        use()


def networks(teacher_features=3, student_cascades=2):
    mask = cartesian_mask((16, 12), 4, centre=2)
    teacher = build_model("dccnn", mask, cascades=2, convolutions=5, features=teacher_features)
    return teacher, build_model("dccnn", mask, cascades=student_cascades, convolutions=3, features=3)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_a_loss_on_features_stands_where_the_paper_puts_it(name):
    """At the middle convolutions of each cascade; FSP between each cascade's first and last but one."""
    option, ends = ("flows", (1, 4, 1, 2)) if name == "fsp" else ("pairs", (3, 2))
    names = [[f"cascade{c}.convolution{n}" for n in ends] for c in (1, 2)]
    places = LOSSES.find(name).places(*networks())
    assert places == {option: names}
    loss, half = build_loss(name, **places), len(ends) // 2
    assert loss.teacher_features == [n for each in names for n in each[:half]]
    assert loss.network_features == [n for each in names for n in each[half:]]
    with pytest.raises(StudyError, match="features of 2 cascades of the teacher can't be paired with 1"):
        LOSSES.find(name).places(*networks(student_cascades=1))


def test_fitnets_is_given_channels_where_the_networks_differ_in_them():
    options = LOSSES.find("fitnets").places(*networks(teacher_features=7))
    assert options["channels"] == [[7, 3], [7, 3]]
    assert [p.shape for p in build_loss("fitnets", **options).parameters()] == [(7, 3, 1, 1), (7,)] * 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("imitation", {"variant": "papre"}, "option 'variant': .* 'paper' or 'released', found 'papre'"),
        ("imitation", {"beta": 1}, "option 'beta': Extra inputs are not permitted"),
        ("imitation", {"alpha": float("nan")}, "option 'alpha': .* found nan"),
        ("fitnets", {"pairs": PAIRS, "channels": [[5, 0], [2, 2]]}, r"option 'channels\.0\.1': .* found 0"),
        ("attention_transfer", {"pairs": []}, "option 'pairs': .* at least 1 item"),
        ("attention_transfer", {}, "option 'pairs': Field required"),
        ("attentive_hint", {"pairs": [["t1", "s1", "s2"]]}, r"option 'pairs\.0': .* at most 2 items"),
        ("fsp", {"flows": [("t1", "t2")]}, r"option 'flows\.0': .* at least 4 items"),
        ("student_friendly", {"branches": "s1"}, "option 'branches': .* found 's1'"),
    ],
)
def test_options_that_a_loss_cannot_have_are_named(name, options, message):
    with pytest.raises(StudyError, match=f"loss '{name}', {message}"):
        build_loss(name, **options)
