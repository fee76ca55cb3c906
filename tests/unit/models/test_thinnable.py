"""The teacher that holds its student ready: what is left of it without its branches is the student, whole it is more."""

import itertools

import pytest
import torch

from kdmri_lib.errors import StudyError
from kdmri_lib.models.base import begin_from, build_model

OPTIONS = {"cascades": 2, "features": 4, "initialisation": "he"}
TAKEN = [
    (f"cascade{c}.convolution{t}", f"cascade{c}.convolution{s}") for c in (1, 2) for t, s in ((1, 1), (3, 2), (5, 3))
]


@pytest.fixture
def student(mask):
    return build_model("dccnn", mask, convolutions=3, **OPTIONS)


def thinnable(mask, **more):
    return build_model("thinnable", mask, convolutions=5, **OPTIONS, **more)


def test_without_its_branches_it_is_the_student_that_takes_its_weights(mask, measurement, student):
    model = thinnable(mask, dropped=1.0)
    begin_from(student, model, TAKEN)
    torch.testing.assert_close(model.train()(*measurement), student(*measurement))
    assert not torch.allclose(model.eval()(*measurement), student(*measurement)), "whole, where it doesn't train"


def test_branches_add_to_what_they_get(mask, measurement):
    """By hand, from the layers' own outputs; each feature is what the next convolution gets."""
    model, seen = thinnable(mask, dropped=0.0), {}
    for name, layer in ((n, c) for layers in model.feature_layers for n, c in layers.items()):
        layer.register_forward_hook(lambda _, i, o, name=name: seen.update({name: (i[0].clone(), o.clone())}))
    _, features = model(*measurement, features=model.feature_names)
    for group in model.feature_groups:
        for n, (name, following) in enumerate(itertools.pairwise(group), 1):
            given, made = seen[name]
            torch.testing.assert_close(features[name], torch.relu(made + given if n in (2, 4) else made))
            assert torch.equal(features[name], seen[following][0])


def test_branches_begin_smaller_and_nothing_else_does(mask):
    torch.manual_seed(0)
    small = thinnable(mask, branches=0.25).state_dict()
    torch.manual_seed(0)
    for name, value in build_model("dccnn", mask, convolutions=5, **OPTIONS).state_dict().items():
        factor = 0.25 if name.endswith((".1.weight", ".3.weight")) else 1
        torch.testing.assert_close(small[name], factor * value)


def test_as_many_branches_are_left_out_as_it_says_and_in_each_step_others(mask, measurement):
    """Of 400 draws; the state of PyTorch's random numbers decides."""
    model, calls = thinnable(mask, dropped=0.3), []
    model.cascades[1][3].register_forward_hook(lambda *_: calls.append(1))
    torch.manual_seed(1)
    images = [model(*measurement) for _ in range(400)]
    assert 250 <= len(calls) <= 310, "280 are expected, with a standard deviation of 9"
    torch.manual_seed(1)
    assert torch.equal(images[0], model(*measurement))


def test_options_out_of_range_are_named(mask):
    with pytest.raises(StudyError, match=r"option 'dropped'.*found 1\.5"):
        thinnable(mask, dropped=1.5)
