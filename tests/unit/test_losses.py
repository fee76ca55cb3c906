"""Losses against float64 NumPy and hand-computed cases; gradients reach the student and never the teacher."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from kdmri_lib.declarations import LossTerm
from kdmri_lib.errors import StudyError
from kdmri_lib.losses.attention_transfer import attention_map
from kdmri_lib.losses.base import LOSSES, Loss, Objective, Prediction, build_loss, register

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
    first, second = (float(loss(target, s, teacher).detach()) for s in (scaled, student))
    assert first == pytest.approx(second, rel=1e-4)


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


OPTIONS = {
    "attention_transfer": {"pairs": PAIRS},
    "attentive_hint": {"pairs": PAIRS},
    "attentive_imitation": {"alpha": 0.3},
    "correlation_congruence": {"pairs": PAIRS},
    "fitnets": {"pairs": PAIRS},
    "fsp": {"flows": [("t1", "t2", "s1", "s2")]},
    "imitation": {"alpha": 0.3},
    "reconstruction": {},
    "similarity_preserving": {"pairs": PAIRS},
    "student_friendly": {"branches": ["s1", "s2"]},
}
FEATURE_LOSSES = sorted(n for n in OPTIONS if "pairs" in OPTIONS[n] or "flows" in OPTIONS[n])
ERRORS = torch.tensor([0.0, 0.5])  # the teacher's over the training set: eta is 0.5


def made(name):
    loss = build_loss(name, **OPTIONS[name])
    loss.prepare(ERRORS)
    return loss


def numpy_loss(name, target, student, teacher):
    """Each loss as its authors define it, in float64 NumPy, sample by sample."""
    x, x_s, x_t = (v.detach().double().numpy() for v in (target, student.image, teacher.image))
    maps = [
        (student.features[s].detach().double().numpy(), teacher.features[t].detach().double().numpy()) for t, s in PAIRS
    ]
    batch = len(x)
    trust = [max(0.0, 1 - ((x_t[i] - x[i]) ** 2).mean() / 0.5) for i in range(batch)]
    if name == "fitnets":
        return sum(0.5 * ((t - s) ** 2).mean() for s, t in maps)
    if name == "attentive_hint":
        return sum(np.mean([trust[i] * ((t[i] - s[i]) ** 2).mean() for i in range(batch)]) for s, t in maps)
    if name == "attentive_imitation":
        imitated = np.mean([trust[i] * np.abs(x_t[i] - x_s[i]).mean() for i in range(batch)])
        return 0.3 * np.abs(x - x_s).mean() + 0.7 * imitated
    if name == "fsp":
        (s1, t1), (s2, t2) = maps
        flows = [np.einsum("chw,dhw->cd", a[i], b[i]) / 24 for i in range(batch) for a, b in ((t1, t2), (s1, s2))]
        return np.mean([((t - s) ** 2).sum() for t, s in zip(flows[::2], flows[1::2], strict=True)])
    if name == "similarity_preserving":

        def similarity(a):
            gram = np.array([[(a[i] * a[j]).sum() for j in range(batch)] for i in range(batch)])
            return gram / np.linalg.norm(gram, axis=1, keepdims=True)

        return sum(((similarity(t) - similarity(s)) ** 2).sum() / batch**2 for s, t in maps)
    if name == "correlation_congruence":

        def kernel(a):
            unit = [v.ravel() / np.linalg.norm(v) for v in a]
            z = 0.8 * np.array([[u @ v for v in unit] for u in unit])
            return np.exp(-0.8) * (1 + z + z**2 / 2)

        return sum(((kernel(t) - kernel(s)) ** 2).sum() / batch**2 for s, t in maps)
    raise NotImplementedError(name)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_student_friendly_by_hand(variant):
    """Teacher off by 1, branches off by 2 and 3: 1 + (2 + 3) / 2 + (1 + 2) / 2, the last over 4 pixels as released."""
    target = torch.zeros(2, 1, 1, 2)
    student = Prediction(target + 1, {"s1": target + 2, "s2": target + 3})
    loss = build_loss("student_friendly", branches=["s1", "s2"], variant=variant)
    assert loss.student_features == ["s1", "s2"] and loss.teacher_features == []
    assert float(loss(target, student, None)) == pytest.approx(1 + 2.5 + 1.5 / (1 if variant == "paper" else 4))


@pytest.mark.parametrize("name", sorted({*FEATURE_LOSSES, "attentive_imitation"} - {"attention_transfer"}))
@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_feature_losses_are_as_their_authors_define_them(name, seed, batch):
    values = predictions(seed, batch=batch, teacher_channels=3, student_channels=3)
    assert float(made(name)(*values).detach()) == pytest.approx(numpy_loss(name, *values), rel=1e-4)


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


def test_every_registered_loss_is_tested_here():
    assert set(OPTIONS) == set(LOSSES)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_identical_maps_give_zero_and_zero_maps_a_finite_gradient(name):
    rng = torch.Generator().manual_seed(0)
    maps = {n: torch.rand(3, 2, 4, 6, generator=rng) for n in ("1", "2")}
    image = torch.rand(3, 1, 4, 6, generator=rng)
    teacher = Prediction(image, {f"t{n}": m for n, m in maps.items()})
    same = Prediction(image, {f"s{n}": m for n, m in maps.items()})
    assert float(made(name)(image, same, teacher)) == pytest.approx(0, abs=1e-10)
    zero = {f"s{n}": torch.zeros(3, 2, 4, 6, requires_grad=True) for n in maps}
    value = made(name)(image, Prediction(image, zero), teacher)
    value.backward()
    assert torch.isfinite(value) and all(torch.isfinite(z.grad).all() for z in zero.values())


def test_similarity_preserving_ignores_an_orthogonal_mixing_of_features():
    target, student, teacher = predictions(student_channels=4)
    mixing = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    mixed = {n: torch.einsum("dc,bchw->bdhw", mixing, f) for n, f in student.features.items()}
    loss = made("similarity_preserving")
    first, second = (float(loss(target, s, teacher).detach()) for s in (student, Prediction(student.image, mixed)))
    assert first == pytest.approx(second, rel=1e-4)


@pytest.mark.parametrize("name", ["similarity_preserving", "correlation_congruence"])
def test_losses_between_samples_need_two(name):
    with pytest.raises(StudyError, match="needs a batch of at least 2"):
        made(name)(*predictions(batch=1))


def test_fitnets_regressor_trains_with_the_student_where_channels_differ():
    with pytest.raises(StudyError, match="give `channels`"):
        build_loss("fitnets", pairs=PAIRS)(*predictions())
    for kernel in (1, 3):
        loss = build_loss("fitnets", pairs=PAIRS, channels=(5, 2), kernel=kernel)
        loss(*predictions()).backward()
        assert all(p.grad is not None for p in loss.parameters()) and len(list(loss.parameters())) == 4
    with pytest.raises(StudyError, match="kernel is 5"):
        build_loss("fitnets", pairs=PAIRS, kernel=5)


def test_attentive_losses_want_the_teachers_errors_first():
    with pytest.raises(StudyError, match="before it saw the teacher's errors"):
        build_loss("attentive_hint", pairs=PAIRS)(*predictions(student_channels=5))
    with pytest.raises(StudyError, match="eta would be 0"):
        build_loss("attentive_hint", pairs=PAIRS).prepare(torch.ones(4))
    # Twice as wrong as eta: no trust, not a negative one.
    target, student, teacher = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 1.0)
    loss = made("attentive_imitation")
    assert float(loss(target, Prediction(student * 3, {}), Prediction(teacher, {}))) == pytest.approx(0.3 * 3)


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
    with pytest.raises(StudyError, match=r"unknown loss 'attention'; known: attention_transfer, attentive_hint"):
        build_loss("attention")
    with pytest.raises(StudyError, match="unknown variant 'papre'"):
        build_loss("imitation", variant="papre")
    with pytest.raises(StudyError, match="beta"):
        build_loss("imitation", beta=1)
    with pytest.raises(StudyError, match="alpha is 2"):
        build_loss("imitation", alpha=2)


def test_a_loss_of_ones_own_is_found_by_its_name():
    @register("constant_for_this_test")
    class Constant(Loss):
        uses_teacher, judges_image = False, True

        def forward(self, target, student, teacher):
            return student.image.mean() * 0 + 7

    try:
        objective = Objective((LossTerm(loss="constant_for_this_test"),))
        assert float(objective(*predictions())) == 7
    finally:
        del LOSSES["constant_for_this_test"]
