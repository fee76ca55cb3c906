"""Networks of one's own: their features, what is done where maps differ, and a loop that ends with the same bits."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

from kdmri_lib.distillation import Wrapped, distil, feature_shapes
from kdmri_lib.errors import NotFiniteError, StoppedError, StudyError
from kdmri_lib.losses.attention_transfer import AttentionTransfer
from kdmri_lib.losses.attentive_hint import AttentiveHint
from kdmri_lib.losses.base import Loss, Prediction
from kdmri_lib.losses.fitnets import FitNets
from kdmri_lib.losses.fsp import FSP
from kdmri_lib.losses.held_out_lines import HeldOutLines
from kdmri_lib.losses.imitation import Imitation
from kdmri_lib.losses.reconstruction import Reconstruction
from kdmri_lib.losses.similarity_preserving import SimilarityPreserving
from kdmri_lib.masks import cartesian_mask
from kdmri_lib.models.dccnn import DCCNN
from kdmri_lib.operators import UndersamplingOperator
from kdmri_lib.training import Trained
from tests.trainings import assert_same_bits
from tests.unit.losses.made import ERRORS

SHAPE = (16, 12)
MASK = cartesian_mask(SHAPE, 4, centre=2)
SCHEDULE = {"steps": 6, "batch": 2, "validations": 3, "learning_rate": 1e-2}
MAPS = [("1.0", "1.0"), ("3.0", "3.0")]  # after these, features of `net`


def images(count: int = 5, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, channels, *SHAPE, generator=torch.Generator().manual_seed(seed))


def net(width: int, channels: int = 1, stride: int = 1) -> nn.Module:
    """Convolutions whose inner maps are `stride` times smaller, with all that makes a training remember and draw."""
    torch.manual_seed(width)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.Sequential(nn.AvgPool2d(stride), nn.BatchNorm2d(width), nn.LeakyReLU()),
        nn.Dropout(0.2),
        nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU()),
        nn.Upsample(scale_factor=stride),
        nn.Conv2d(width, channels, 3, padding=1),
    )


def noisy(image: torch.Tensor) -> torch.Tensor:
    return image + 0.1 * torch.randn_like(image)


def dccnn(convolutions: int) -> DCCNN:
    torch.manual_seed(convolutions)
    return DCCNN(MASK, cascades=2, convolutions=convolutions, features=4)


def test_a_model_and_the_same_model_as_anybodys_module_are_trained_to_the_same_bits():
    """Where what they get is the operator's or a function's; and neither network, nor what the process draws at random, is
    changed."""
    teacher, student, operator = dccnn(5), dccnn(3), UndersamplingOperator(MASK)
    before = copy.deepcopy((teacher.state_dict(), student.state_dict()))
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    deterministic = torch.are_deterministic_algorithms_enabled()
    losses = [AttentionTransfer([("cascade1.convolution3", "cascade1.convolution2")]), (0.5, Imitation(0.3))]
    one = distil(student, teacher, losses, images(), operator, images(2), **SCHEDULE)
    losses[0] = AttentionTransfer([("cascades.0.2", "cascades.0.1")])
    both = Wrapped(student), Wrapped(teacher)
    other = distil(*both, losses, images(), lambda image: tuple(operator(image)), images(2), **SCHEDULE)
    assert_same_bits(one.network.state_dict(), other.network.state_dict())
    assert one.curve.equals(other.curve) and len(one.curve) == 3
    assert not one.network.training and torch.are_deterministic_algorithms_enabled() == deterministic
    assert_same_bits(before[0], teacher.state_dict())
    assert_same_bits(before[1], student.state_dict())
    assert not torch.equal(before[1]["cascades.0.0.weight"], one.network.state_dict()["cascades.0.0.weight"])
    assert torch.equal(state[0], torch.get_rng_state()) and state[2] == random.getstate()
    assert state[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert feature_shapes(student, operator(images(2)))["cascades.1.0"] == (2, 4, *SHAPE)


def test_a_module_that_is_called_twice_has_two_features():
    layer = nn.Conv2d(1, 1, 3, padding=1)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, image):
            return self.layer(self.layer(image))

    image = images(2)
    found, features = Wrapped(Twice())(image, features=["layer_1", "layer"])
    assert torch.equal(features["layer"], layer(image)) and torch.equal(features["layer_1"], found)
    assert feature_shapes(Twice(), image) == dict.fromkeys(("layer", "layer_1"), (2, 1, *SHAPE))
    assert not layer._forward_hooks
    with pytest.raises(StudyError, match="'layer_2': the network called 'layer' 2 times"):
        Wrapped(Twice())(image, features=["layer_2"])


class Turned(Dataset):
    """Images whose transforms draw from all three generators."""

    def __len__(self):
        return 5

    def __getitem__(self, number):
        draws = torch.rand(1).item(), np.random.random(), random.random()  # noqa: NPY002
        return images()[number] * sum(draws)


WAYS = {
    "attention": ([AttentionTransfer(MAPS)], images()),
    "FitNets, regressors": ([FitNets(MAPS), (0.5, Imitation(0.5))], images()),
    "attentive hint": ([AttentiveHint(MAPS)], images()),
    "baseline": ([Reconstruction("l2")], images()),
    "transforms that draw": ([SimilarityPreserving(MAPS)], DataLoader(Turned(), batch_size=3, shuffle=True)),
    "averaged": ([Imitation(0.0)], images()),
}


@pytest.mark.parametrize("way", WAYS)
def test_killed_and_resumed_it_ends_with_the_same_bits(way, tmp_path):
    """With dropout, batch normalisation, physics that draws noise, other channels and other sizes."""
    losses, data = WAYS[way]
    teacher, student = net(6), net(4, stride=2)
    how = SCHEDULE | ({"averaging": 0.5} if way == "averaged" else {})

    def trained(checkpoint, **hooks):
        return distil(student, teacher, losses, data, noisy, images(3, seed=1), tmp_path / checkpoint, **how, **hooks)

    def killed(step, *_):
        if step == 3:
            raise KeyboardInterrupt

    whole = trained("whole.pt")
    with pytest.raises(KeyboardInterrupt):
        trained("cut.pt", progress=killed)
    with pytest.raises(StoppedError, match="stopped after step 4 of 6"):
        steps = []
        trained("cut.pt", progress=lambda step, *_: steps.append(step), stop=lambda: steps[-1] == 4)
    assert steps == [3, 4], "from the last validation"
    resumed = trained("cut.pt")
    assert_same_bits(whole.network.state_dict(), resumed.network.state_dict())
    assert whole.curve.equals(resumed.curve)
    assert_same_bits(whole.network.state_dict(), trained("whole.pt").network.state_dict())


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    arguments = [net(4), net(6), [Imitation(0.5)], images(), noisy, images(3), tmp_path / "one.pt"]
    distil(*arguments, **SCHEDULE)
    others = {
        "schedule": {"steps": 7},
        "losses": {2: [Imitation(0.4)]},
        "physics": {4: lambda image: noisy(image) / 2},
        "student": {0: net(5)},
        "teacher": {1: net(7)},
        "data": {3: images(6)},
    }
    for what, changes in others.items():
        changed = [changes.get(place, argument) for place, argument in enumerate(arguments)]
        with pytest.raises(StudyError, match=f"one.pt: of another training, by its ([a-z, ]+, )?{what}[,;]"):
            distil(*changed, **SCHEDULE | {k: v for k, v in changes.items() if isinstance(k, str)})


def halved(feature: torch.Tensor) -> torch.Tensor:
    """Means of two by two: what bilinear interpolation to half the size is."""
    return feature.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean(dim=(3, 5))


@pytest.mark.parametrize("loss", [AttentionTransfer(MAPS), FitNets(MAPS), AttentiveHint(MAPS)], ids=lambda x: x.label)
def test_maps_of_other_sizes_and_channels_are_made_equal(loss, monkeypatch):
    """Before the first step: the objective of the validation images, against maps that are made equal by hand."""
    student, teacher = net(4), net(6, stride=2)
    seen = []
    made = lambda _name, step, *_, **__: seen.append(step) or Trained(step.network, None)  # noqa: E731
    monkeypatch.setattr("kdmri_lib.distillation.train", made)
    distil(student, teacher, [loss], images(), lambda x: x, images(4), steps=1)
    step = seen[0]
    step.objective.prepare(ERRORS)
    step.network.eval()
    target = images(4)
    (image, mine), (answer, shown) = (
        Wrapped(network.eval())(target, features=["1.0", "3.0"]) for network in (student, teacher)
    )
    if isinstance(loss, AttentionTransfer):
        mine = {name: halved(m.square().sum(dim=1, keepdim=True)).sqrt() for name, m in mine.items()}
    else:
        (fitted,) = step.objective.losses
        weights = [(r.weight[:, :, 0, 0], r.bias[:, None, None]) for r in fitted.regressors]
        mine = {
            name: halved(torch.einsum("oi,bihw->bohw", w, m) + b)
            for (name, m), (w, b) in zip(mine.items(), weights, strict=True)
        }
    plain = copy.deepcopy(loss)
    plain.prepare(ERRORS)
    expected = plain(target, Prediction(image, mine), Prediction(answer, shown))
    found, _ = step.loss(target)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5) and found.item() > 0
    found.backward()
    assert all(p.grad.isfinite().all() for p in step.objective.parameters())


def test_where_nothing_is_active_interpolated_attention_has_a_gradient():
    zero = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AvgPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(2, 1, 1))
    nn.init.zeros_(zero[0].weight)
    nn.init.zeros_(zero[0].bias)
    made = distil(zero, net(6), [AttentionTransfer([("1", "1")])], images(), lambda x: x, images(2), **SCHEDULE)
    assert all(p.isfinite().all() for p in made.network.parameters())


@pytest.mark.parametrize("channels", [2, 3])
def test_images_of_any_channels_are_trained_on_as_they_are(channels):
    data, seen = images(channels=channels), []
    made = distil(net(4, channels), None, [Reconstruction()], data, lambda x: seen.append(x) or x, data[:3], **SCHEDULE)
    assert all(any(torch.equal(x, image) for image in data) for batch in seen for x in batch)
    best = made.curve.loc[made.curve.validation_psnr.idxmax()]
    found, truth = made.network(data[:3]).detach(), data[:3]
    if channels == 2:
        found, truth = found.norm(dim=1), truth.norm(dim=1)
    error = (found - truth).square().mean()
    assert best.validation_psnr == pytest.approx(float(10 * torch.log10(truth.max() ** 2 / error)), abs=1e-3)


def test_a_loader_is_its_data_set_in_this_order():
    one, other = (
        distil(net(4), None, [Reconstruction()], data, noisy, images(2), **SCHEDULE)
        for data in (images(), DataLoader(TensorDataset(images(), torch.arange(5)), batch_size=5, shuffle=True))
    )
    assert_same_bits(one.network.state_dict(), other.network.state_dict())


class Flat(Loss):
    """A loss that isn't a number."""

    def __init__(self, *fits):
        super().__init__()
        self.fits = fits

    def forward(self, target, prediction, teacher):
        return prediction.image.mean(dim=0)


class Unborn(Loss):
    def __init__(self):
        """Without that of `Loss`."""


class Stream(IterableDataset):
    def __iter__(self):
        return iter(images())


class Pair(nn.Module):
    def forward(self, image):
        return image, image


FLOW, DIFFER = [("0", "3", "0", "3")], r"teacher's '0' \(2, 6, 16, 12\) and student's '0' \(2, 4, 16, 12\)"
WRONG = {
    "student: no submodule 'nine'; nearest of this network's 11: 5, 4": {
        "losses": [AttentionTransfer([("0", "nine")])]
    },
    rf"FSP can't compare {DIFFER}": {"losses": [FSP(FLOW)]},
    r"FSP can't compare .*'3' \(2, 4, 8, 6\)": {"losses": [FSP(FLOW)], "teacher": net(4), "student": net(4, stride=2)},
    rf"FitNets can't compare {DIFFER}": {"losses": [FitNets([("0", "0")], channels=[[6, 3]])]},
    r"student: gives \(2, 2, 16, 12\) of images \(2, 1, 16, 12\)": {"student": nn.Conv2d(1, 2, 1)},
    "teacher: gives a tuple": {"teacher": Pair()},
    "Imitation needs a teacher": {"teacher": None},
    "losses: none; expected a list": {"losses": []},
    "losses: a Imitation; expected a list": {"losses": Imitation(0.5)},
    r"losses: \(Imitation, float\); expected": {"losses": [(Imitation(0.5), 0.5)]},
    r"losses: \(float, type\); expected": {"losses": [Imitation]},
    "Unborn: its __init__ doesn't begin with super": {"losses": [Unborn()]},
    r"Flat: fits = \('colour',\); expected a tuple of channels, size": {"losses": [Flat("colour")]},
    "student: none of its weights trains": {"student": nn.ReLU()},
    "precision 'float16'; expected one of auto, float32": {"precision": "float16"},
    "physics gives a NoneType; expected": {"physics": lambda x: None},
    r"student: fails on what physics gives, \(2, 1, 16, 12\) torch.float64": {"data": images().double()},
    "data: a ndarray; expected a tensor or a DataLoader": {"data": images().numpy()},
    "data: a dict; expected real images": {"data": DataLoader([{"image": image} for image in images()])},
    "data: image 0, image 1 make no batch": {"data": DataLoader([images()[0], images()[1, :, :8]], batch_size=2)},
    "data: a WeightedRandomSampler; `distil` shuffles": {
        "data": DataLoader(TensorDataset(images()), sampler=WeightedRandomSampler([1.0] * 5, 5))
    },
    "validation: NaN or infinity in image 1": {"validation": images(3).index_fill(0, torch.tensor([1]), torch.nan)},
    r"Flat gives \(1, 16, 12\); expected": {"losses": [Flat()]},
    "holds measured lines out; expected an UndersamplingOperator": {"losses": [HeldOutLines()]},
    r"data: \(5, 16, 12\) torch.float32; expected real images": {"data": images()[:, 0]},
    "data: .* torch.complex64; expected real": {"data": images() + 1j},
    "validation: no image": {"validation": images(0)},
    "data: no image, or nobody knows how many": {"data": DataLoader(Stream())},
    "distil: stepz Extra inputs.*options are steps, epochs": {"stepz": 5},
    "distil: Value error, a schedule has either": {"epochs": 2},
    "compares samples with one another, and a batch holds 1": {"losses": [SimilarityPreserving(MAPS)], "batch": 1},
    "strips need a mask of whole lines": {"strip": 4},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_doesnt_fit_is_said_in_a_line(message):
    usual = {"student": net(4), "teacher": net(6), "losses": [Imitation(0.5)], "data": images(), "physics": noisy}
    with pytest.raises(StudyError, match=message) as told:
        distil(**{**usual, "validation": images(3), **SCHEDULE, **WRONG[message]})
    assert "\n" not in str(told.value)


def test_numbers_that_go_wrong_are_named_by_step_and_images():
    message = r"distilling Sequential: the loss is (nan|inf) at step \d+; its batch: image"
    with pytest.raises(NotFiniteError, match=message):
        distil(net(4), None, [Reconstruction("l2")], images(), noisy, images(2), **SCHEDULE | {"learning_rate": 1e30})


def test_a_data_set_that_draws_draws_anew_at_each_step():
    drawn = []

    class Drawing(Turned):
        def __getitem__(self, number):
            drawn.append((number, torch.rand(1).item()))
            return super().__getitem__(number)

    how = SCHEDULE | {"batch": 1, "steps": 15}
    distil(net(4), None, [Reconstruction()], DataLoader(Drawing()), noisy, images(2), **how)
    of_one = [value for number, value in drawn if number == 3]
    assert len(of_one) >= 3 and len(set(of_one)) == len(of_one)


class Scaled(Loss):
    """With a weight of its own."""

    fits = ("channels",)

    def __init__(self):
        super().__init__()
        self.pairs, self.scale = [("0", "0")], nn.Parameter(torch.ones(()))

    def forward(self, target, prediction, teacher):
        return self.scale * (prediction.features["0"] - teacher.features["0"]).abs().mean()


def test_a_loss_of_ones_own_that_learns_sees_maps_of_equal_channels_by_their_names():
    made = distil(net(4), net(6), [Scaled()], images(), noisy, images(3), **SCHEDULE)
    assert made.curve.training_loss.notna().all()


@pytest.mark.parametrize("make", [AttentionTransfer, FitNets, lambda pairs: FSP(flows=pairs)])
@pytest.mark.parametrize("pairs", [[], ("mid", "mid"), [("a",)], [("a", "b", "c")], [("a", 3)]])
def test_what_are_no_pairs_is_said(make, pairs):
    with pytest.raises(StudyError, match="expected a list of groups of"):
        make(pairs)
