"""DC-CNN: the paper's sizes, an independent forward pass, features, and any mask and width."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdmri_lib.declared import plain_network
from kdmri_lib.models.base import build_model, multiply_accumulates, parameter_count
from kdmri_lib.operators import UndersamplingOperator
from kdmri_study.profile import Study


@pytest.mark.parametrize(
    ("channels", "teacher", "student"),
    [(1, 141_765, 49_285), (2, 144_650, 52_170)],  # with two, another input and output in each of 5 cascades
)
def test_parameter_counts_are_the_papers(channels, teacher, student):
    profile = Study("quick").profile
    assert parameter_count(plain_network(profile.teacher, channels)) == teacher
    assert parameter_count(plain_network(profile.student, channels)) == student
    work = 5 * 9 * (32 * channels + 32 * 32 + 32 * channels)
    assert multiply_accumulates(plain_network(profile.student, channels)) == work


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("strength", [float("inf"), 2.0])
def test_forward_pass_written_out_again(mask, channels, residual, strength):
    """Convolutions by F.conv2d and data consistency by complex FFT of complex images, in float64; of real ones its real
    part."""
    rng, complex_ = np.random.default_rng(0), channels == 2
    options = {"cascades": 2, "convolutions": 3, "features": 4, "residual": residual, "strength": strength}
    model = build_model("dccnn", mask, channels, **options).double()
    original = torch.from_numpy(rng.standard_normal((2, 16, 12)) + 1j * complex_ * rng.standard_normal((2, 16, 12)))
    kspace_mask = torch.from_numpy(mask)
    kspace, phase = torch.fft.fft2(original) * kspace_mask, 1
    if complex_:
        # Of zero frequency, taken off first and put back at the end.
        phase = kspace[:, :1, :1] / kspace[:, :1, :1].abs()
    kspace = kspace / phase
    image = torch.fft.ifft2(kspace) if complex_ else torch.fft.ifft2(kspace).abs() + 0j
    for cascade in model.cascades:
        hidden = torch.view_as_real(image).movedim(-1, 1)[:, :channels]
        for number, layer in enumerate(cascade):
            hidden = F.conv2d(hidden, layer.weight, layer.bias, padding=1)
            hidden = hidden.clamp(min=0) if number < 2 else hidden
        made = torch.complex(hidden[:, 0], hidden[:, -1] * complex_)
        predicted = torch.fft.fft2(image + made if residual else made)
        averaged = kspace if strength == float("inf") else (predicted + strength * kspace) / (1 + strength)
        image = torch.fft.ifft2(torch.where(kspace_mask, averaged, predicted))
        image = image if complex_ else image.real + 0j
    found = model(*UndersamplingOperator(mask).double()(torch.view_as_real(original).movedim(-1, 1)[:, :channels]))
    expected = torch.view_as_real(image * phase).movedim(-1, 1)[:, :channels]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_default_weights_are_pytorchs_and_hes_are_wide_enough_for_relu(mask):
    """Standard deviations by the formulas."""
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
