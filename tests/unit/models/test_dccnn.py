"""DC-CNN: the paper's sizes, an independent forward pass, features, and any mask and width."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdmri_lib.declared import plain_network
from kdmri_lib.errors import StudyError
from kdmri_lib.models.base import build_model, multiply_accumulates, parameter_count
from kdmri_lib.operators import Undersampling
from kdmri_study.profile import Study


def test_parameter_counts_are_the_papers():
    profile = Study("quick").profile
    assert parameter_count(plain_network(profile.teacher)) == 141_765
    assert parameter_count(plain_network(profile.student)) == 49_285
    assert multiply_accumulates(plain_network(profile.student)) == 5 * 9 * (32 + 32 * 32 + 32)


def test_parameter_counts_of_complex_networks():
    """A convolution from two channels and one to two in each of five cascades, by hand."""
    profile = Study("quick").profile
    assert parameter_count(plain_network(profile.teacher, 2)) == 144_650
    assert parameter_count(plain_network(profile.student, 2)) == 52_170
    assert multiply_accumulates(plain_network(profile.student, 2)) == 5 * 9 * (64 + 32 * 32 + 64)


def test_attention_is_taken_at_the_middle_convolution():
    profile = Study("quick").profile
    assert plain_network(profile.teacher).centre_features == [f"cascade{c}.convolution3" for c in range(1, 6)]
    assert plain_network(profile.student).centre_features == [f"cascade{c}.convolution2" for c in range(1, 6)]


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("strength", [float("inf"), 2.0])
def test_forward_pass_written_out_again(mask, original, measurement, residual, strength):
    """Convolutions by F.conv2d and data consistency by complex FFT, in float64."""
    options = {"cascades": 2, "convolutions": 3, "features": 4, "residual": residual, "strength": strength}
    model = build_model("dccnn", mask, **options).double()
    zero_filled, measured = (value.double() for value in measurement)
    kspace_mask, image = torch.from_numpy(mask), zero_filled
    # The complex measurement, of which `measured_image` is the real part of the inverse transform.
    kspace = torch.fft.fft2(original.double()) * kspace_mask
    for cascade in model.cascades:
        hidden = image
        for number, layer in enumerate(cascade):
            hidden = F.conv2d(hidden, layer.weight, layer.bias, padding=1)
            if number < 2:
                hidden = hidden.clamp(min=0)
        predicted = torch.fft.fft2(image + hidden if residual else hidden)
        averaged = kspace if strength == float("inf") else (predicted + strength * kspace) / (1 + strength)
        image = torch.fft.ifft2(torch.where(kspace_mask, averaged, predicted)).real
    torch.testing.assert_close(model(zero_filled, measured), image, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strength", [float("inf"), 2.0])
def test_forward_pass_on_complex_images_written_out_again(mask, strength):
    """Data consistency by the complex FFT of complex images, in float64."""
    rng = np.random.default_rng(0)
    model = build_model("dccnn", mask, 2, cascades=2, convolutions=3, features=4, strength=strength).double()
    original = torch.from_numpy(rng.standard_normal((2, 16, 12)) + 1j * rng.standard_normal((2, 16, 12)))
    kspace_mask = torch.from_numpy(mask)
    kspace = torch.fft.fft2(original) * kspace_mask
    phase = kspace[:, :1, :1] / kspace[:, :1, :1].abs()  # of zero frequency, taken off first and put back at the end
    kspace = kspace / phase
    image = torch.fft.ifft2(kspace)
    for cascade in model.cascades:
        hidden = torch.view_as_real(image).movedim(-1, 1)
        for number, layer in enumerate(cascade):
            hidden = F.conv2d(hidden, layer.weight, layer.bias, padding=1)
            hidden = hidden.clamp(min=0) if number < 2 else hidden
        predicted = torch.fft.fft2(image + torch.complex(*hidden.unbind(1)))
        averaged = kspace if strength == float("inf") else (predicted + strength * kspace) / (1 + strength)
        image = torch.fft.ifft2(torch.where(kspace_mask, averaged, predicted))
    found = model(*Undersampling(mask).double()(torch.view_as_real(original).movedim(-1, 1)))
    torch.testing.assert_close(torch.complex(*found.unbind(1)), image * phase, atol=1e-5, rtol=1e-5)


def test_features_by_name_are_after_the_relu_and_change_nothing(mask, measurement):
    model = build_model("dccnn", mask, cascades=2, convolutions=3, features=4)
    image, features = model(*measurement, features=["cascade1.convolution2", "cascade2.convolution3"])
    assert torch.equal(image, model(*measurement))
    assert features["cascade1.convolution2"].shape == (2, 4, 16, 12)
    assert features["cascade1.convolution2"].min() == 0
    assert features["cascade2.convolution3"].shape == (2, 1, 16, 12)


def test_a_feature_that_is_not_there_is_named(mask, measurement):
    with pytest.raises(StudyError, match=r"cascade2\.convolution1"):
        build_model("dccnn", mask, cascades=1)(*measurement, features=["cascade2.convolution1"])


@pytest.mark.parametrize("width", [5, 12, 31])
def test_any_width_where_a_line_mask_allows(mask, width):
    model = build_model("dccnn", mask, cascades=1, features=4)
    image = torch.rand(1, 1, 16, width)
    assert model(*Undersampling(mask)(image)).shape == image.shape


def test_masks_of_points_work_too():
    mask = np.random.default_rng(0).random((16, 12)) < 0.4
    model = build_model("dccnn", mask, cascades=1, features=4)
    assert model(*Undersampling(mask)(torch.rand(1, 1, 16, 12))).shape == (1, 1, 16, 12)


def test_default_weights_are_pytorchs_and_hes_are_wide_enough_for_relu(mask):
    """Standard deviations by the formulas; a random image comes through a cascade with its size, not a fifteenth of it."""
    torch.manual_seed(0)
    options = {"cascades": 2, "convolutions": 4, "features": 64}
    default, he = (build_model("dccnn", mask, initialisation=how, **options) for how in ("default", "he"))
    for cascade in range(2):
        for n, fan_in in enumerate((9, 576, 576, 576)):
            usual, wide = (network.cascades[cascade][n] for network in (default, he))
            last = 0.1 if n == 3 else 1
            assert usual.weight.std().item() == pytest.approx(1 / (3 * fan_in) ** 0.5, rel=0.15)
            assert wide.weight.std().item() == pytest.approx(last * (2 / fan_in) ** 0.5, rel=0.15)
            assert not wide.bias.any() and usual.bias.any()
    image = torch.randn(4, 1, *mask.shape)
    sizes = []
    for network in (default, he):
        hidden = image
        for convolution in network.cascades[0][:-1]:
            hidden = convolution(hidden).relu()
        sizes.append(hidden.square().mean().sqrt().item())
    assert 0.5 < sizes[1] < 2 and sizes[0] < 0.2
