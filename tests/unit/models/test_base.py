"""What every network offers, networks by name, and weights that one begins with from another."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from kdmri_lib.channels import as_channels
from kdmri_lib.errors import StudyError
from kdmri_lib.models.base import (
    MODELS,
    Model,
    begin_from,
    build_model,
    middle,
    multiply_accumulates,
    parameter_count,
)
from kdmri_lib.operators import UndersamplingOperator

SMALL = {name: {"cascades": 2} for name in ("dccnn", "student_friendly", "thinnable")} | {"vdsr": {}}
SMALL["thinnable"]["dropped"] = 0.0


def small(name, mask, channels=1, **more):
    return build_model(name, mask, channels, **{"convolutions": 4, "features": 3, **SMALL[name], **more})


def test_every_registered_network_is_tested_here():
    assert set(SMALL) == set(MODELS.all())


@pytest.mark.parametrize("name", [name for name in SMALL if name != "thinnable"])
def test_every_feature_can_be_asked_for_and_is_that_of_its_convolution(name, mask, measurement):
    """As recorded by hooks on the layers behind them, before the ReLU; the last of a group has none."""
    model, seen = small(name, mask), {}
    for feature, layer in ((n, c) for layers in model.feature_layers for n, c in layers.items()):
        layer.register_forward_hook(lambda _, __, output, feature=feature: seen.update({feature: output.clone()}))
    image, features = model(*measurement, features=model.feature_names)
    assert image.shape == measurement.zero_filled.shape and torch.equal(image, model(*measurement))
    assert model.feature_names == [name for group in model.feature_groups for name in group] == [*features]
    assert {name: value.shape[1] for name, value in features.items()} == model.feature_channels
    assert model.centre_features == [group[1] for group in model.feature_groups], "the second of four"
    for feature in model.feature_names:
        last = any(feature == group[-1] for group in model.feature_groups)
        assert torch.equal(features[feature], seen[feature] if last else seen[feature].clamp(min=0))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("angle", [0.5, math.pi, -2.0])
def test_a_constant_phase_of_complex_k_space_turns_what_a_network_makes_and_nothing_else(name, angle, mask):
    """Its image, its branches' images, at once by the same angle; its features not at all."""
    model, operator = small(name, mask, 2).double(), UndersamplingOperator(mask).double()
    original = np.random.default_rng(0).standard_normal((2, 16, 24)).view(complex)
    branches = list(model.branch_names)
    (image, features), (turned, same) = (
        model(*operator(as_channels(values)), features=[*model.feature_names, *branches])
        for values in (original, original * np.exp(1j * angle))
    )
    for before, after in [(image, turned), *((features[b], same[b]) for b in branches)]:
        expected = torch.complex(*before.unbind(1)) * np.exp(1j * angle)
        torch.testing.assert_close(torch.complex(*after.unbind(1)), expected)
    for feature in model.feature_names:
        torch.testing.assert_close(same[feature], features[feature])


def test_parameters_multiply_accumulates_and_the_middle_by_hand():
    """3 x 3 convolutions of 2 to 5 channels with biases, and of 5 to 1 without."""
    model = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Conv2d(5, 1, 3, bias=False))
    model[0].requires_grad_(False)
    assert parameter_count(model) == 2 * 5 * 9 + 5 + 5 * 9
    assert multiply_accumulates(model) == 2 * 5 * 9 + 5 * 9
    for count, expected in ((5, 3), (3, 2), (11, 6), (7, 4), (4, 2), (1, 1)):
        assert middle(list(range(1, count + 1))) == expected


@pytest.mark.parametrize("name", SMALL)
def test_a_network_begins_with_all_of_another_of_its_kind(name, mask):
    network, other = small(name, mask), small(name, mask)
    begin_from(network, other)
    found = network.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in other.state_dict().items())
    for unlike in (small(name, mask, features=2), small("vdsr" if name == "dccnn" else "dccnn", mask, features=2)):
        with pytest.raises(StudyError, match=r"don't fit the network: .*size mismatch|don't fit .*[Uu]nexpected key"):
            begin_from(network, unlike)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("unet", {}, r"unknown model 'unet'; known: dccnn, student_friendly, thinnable, vdsr"),
        ("student_friendly", {"casacdes": 3}, "model 'student_friendly', option 'casacdes': Extra inputs"),
        ("dccnn", {"convolutions": 1}, "option 'convolutions': .* greater than or equal to 2, found 1"),
        ("dccnn", {"features": 8.0}, "option 'features': .* integer, found 8.0"),
        ("dccnn", {"mask": "mine.npy"}, "option 'mask'"),
        ("student_friendly", {"channels": 2}, "option 'channels': isn't for a declaration to give"),
    ],
)
def test_networks_and_options_that_there_are_not_are_named(mask, kind, options, message):
    with pytest.raises(StudyError, match=message):
        build_model(kind, mask, **options)


def test_a_network_of_ones_own_is_found_by_its_name(mask, measurement):
    @MODELS.register("identity_for_this_test")
    class Identity(Model):
        feature_layers = ()

        def __init__(self, mask, scale: float = 1.0, channels: int = 1):
            super().__init__()
            self.scale = scale

        def forward(self, zero_filled, measured_image, features=()):
            return zero_filled * self.scale

    try:
        model = build_model("identity_for_this_test", mask, scale=2.0)
        assert torch.equal(model(*measurement), 2 * measurement.zero_filled)
        assert model.feature_names == model.centre_features == []
    finally:
        MODELS.remove("identity_for_this_test")


def test_named_convolutions_are_taken_over_and_no_others(mask):
    teacher, student = (small("dccnn", mask, convolutions=n) for n in (5, 3))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    pairs = [("cascade2.convolution3", "cascade1.convolution2"), ("cascade2.convolution5", "cascade2.convolution3")]
    begin_from(student, teacher, pairs)
    taken = {"cascades.0.1": teacher.cascades[1][2], "cascades.1.2": teacher.cascades[1][4]}
    for name, value in student.state_dict().items():
        layer, _, what = name.rpartition(".")
        expected = getattr(taken[layer], what) if layer in taken else before[name]
        assert torch.equal(value, expected), name


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (
            "cascade1.convolution1",
            "cascade1.convolution2",
            "cascade1.convolution1 to cascade1.convolution2: .*mismatch",
        ),
        ("cascade1.convolution9", "cascade1.convolution2", "no feature"),
        ("cascade1.convolution2", "cascade7.convolution2", "no feature"),
    ],
)
def test_convolutions_that_do_not_fit_are_refused(mask, source, target, message):
    with pytest.raises(StudyError, match=message):
        begin_from(small("dccnn", mask), small("dccnn", mask), [(source, target)])
