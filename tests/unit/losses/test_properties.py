"""What holds for all losses: gradients reach the student alone, memory stays small, zeros stay finite; bad use is named."""

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

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


class Sizes(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in pytree.tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return result


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_no_loss_makes_anything_of_the_square_of_an_image(name):
    """Forward and backward, on maps of 48 x 48: nothing larger than the features themselves, let alone (HW)^2."""
    rng = torch.Generator().manual_seed(0)
    image, channels = torch.rand(4, 1, 48, 48, generator=rng), 8
    student, teacher = (
        Prediction(
            image.clone().requires_grad_(who == "s"),
            {f"{who}{n}": torch.rand(4, channels, 48, 48, generator=rng, requires_grad=who == "s") for n in (1, 2)},
        )
        for who in "st"
    )
    if name == "student_friendly":
        student = Prediction(student.image, {n: torch.rand_like(image, requires_grad=True) for n in ("s1", "s2")})
    with Sizes() as sizes:
        made(name)(image, student, teacher).backward()
    assert 0 < sizes.largest <= 4 * channels * 48 * 48 < (48 * 48) ** 2


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


def test_what_attention_transfer_and_similarity_preserving_do_not_see():
    """The scale of a map; an orthogonal mixing of its channels."""
    target, student, teacher = predictions(student_channels=4)
    mixing = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    changes = {
        "attention_transfer": lambda f: 37 * f,
        "similarity_preserving": lambda f: torch.einsum("dc,bchw->bdhw", mixing, f),
    }
    for name, change in changes.items():
        changed = Prediction(student.image, {n: change(f) for n, f in student.features.items()})
        first, second = (float(made(name)(target, s, teacher).detach()) for s in (student, changed))
        assert first == pytest.approx(second, rel=1e-4)


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
    expected = (
        {"flows": [[f"cascade{c}.convolution{n}" for n in (1, 4, 1, 2)] for c in (1, 2)]}
        if name == "fsp"
        else {"pairs": [[f"cascade{c}.convolution3", f"cascade{c}.convolution2"] for c in (1, 2)]}
    )
    places = LOSSES.find(name).places(*networks())
    assert places == expected
    loss = build_loss(name, **places)
    ends = [f"convolution{n}" for n in ((1, 4, 1, 2) if name == "fsp" else (3, 2))]
    assert loss.teacher_features == [f"cascade{c}.{e}" for c in (1, 2) for e in ends[: len(ends) // 2]]
    assert loss.network_features == [f"cascade{c}.{e}" for c in (1, 2) for e in ends[len(ends) // 2 :]]
    with pytest.raises(StudyError, match="features of 2 cascades of the teacher can't be paired with 1"):
        LOSSES.find(name).places(*networks(student_cascades=1))


def test_fitnets_is_given_channels_where_the_networks_differ_in_them():
    options = LOSSES.find("fitnets").places(*networks(teacher_features=7))
    assert options["channels"] == [[7, 3], [7, 3]]
    assert [p.shape for p in build_loss("fitnets", **options).parameters()] == [(7, 3, 1, 1), (7,)] * 2


@pytest.mark.parametrize("name", sorted({*FEATURE_LOSSES, "student_friendly"}))
def test_a_loss_on_no_features_at_all_is_refused(name):
    (option,) = OPTIONS[name]
    with pytest.raises(StudyError, match=f"loss '{name}', option '{option}': .* at least 1 item"):
        build_loss(name, **{option: []})
    with pytest.raises(StudyError, match=f"loss '{name}', option '{option}': Field required"):
        build_loss(name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("imitation", {"variant": "papre"}, "option 'variant': .* 'paper' or 'released', found 'papre'"),
        ("imitation", {"beta": 1}, "option 'beta': Extra inputs are not permitted"),
        ("imitation", {"alpha": 2}, "option 'alpha': .* less than or equal to 1, found 2"),
        ("imitation", {"alpha": float("nan")}, "option 'alpha': .* found nan"),
        ("imitation", {"norm": "l3"}, "option 'norm': .* 'l1' or 'l2', found 'l3'"),
        ("fitnets", {"pairs": PAIRS, "kernel": 5}, "option 'kernel': .* 1 or 3, found 5"),
        ("fitnets", {"pairs": PAIRS, "channels": [[5], [2, 2]]}, r"option 'channels\.0': .* 2 items .* found \[5\]"),
        ("fitnets", {"pairs": PAIRS, "channels": [[5, 0], [2, 2]]}, r"option 'channels\.0\.1': .* found 0"),
        ("attentive_hint", {"pairs": [["t1", "s1", "s2"]]}, r"option 'pairs\.0': .* at most 2 items"),
        ("attention_transfer", {"pairs": [["t1", 3]]}, r"option 'pairs\.0\.1': .* valid string, found 3"),
        ("similarity_preserving", {"pairs": ["ts"]}, r"option 'pairs\.0': .* found 'ts'"),
        ("fsp", {"flows": [("t1", "t2")]}, r"option 'flows\.0': .* at least 4 items"),
        ("correlation_congruence", {"pairs": PAIRS, "order": 0}, "option 'order': .* found 0"),
        ("student_friendly", {"branches": "s1"}, "option 'branches': .* found 's1'"),
    ],
)
def test_options_that_a_loss_cannot_have_are_named(name, options, message):
    with pytest.raises(StudyError, match=f"loss '{name}', {message}"):
        build_loss(name, **options)
