"""VDSR: appendix A's sizes, an independent forward pass, and data consistency after it."""

import pytest
import torch
import torch.nn.functional as F

from kdmri_lib.masks import mirrored, truncation_mask
from kdmri_lib.models.base import build_model, parameter_count
from kdmri_lib.operators import UndersamplingOperator


def test_sizes_and_middle_convolutions_are_those_of_appendix_a(mask):
    teacher, student = (build_model("vdsr", mask, convolutions=n) for n in (11, 7))
    assert parameter_count(teacher) == 333_569 and parameter_count(student) == 185_857
    teacher2, student2 = (build_model("vdsr", mask, 2, convolutions=n) for n in (11, 7))
    assert parameter_count(teacher2) == 334_722 and parameter_count(student2) == 187_010
    assert teacher.centre_features == ["convolution6"] and student.centre_features == ["convolution4"]


@pytest.mark.parametrize("convolutions", [2, 7])
def test_forward_pass_and_features_written_out_again(mask, measurement, convolutions):
    model = build_model("vdsr", mask, convolutions=convolutions)
    zero_filled, measured = measurement
    image, features = model(zero_filled, measured, features=model.feature_names)
    hidden = zero_filled
    for number, layer in enumerate(model.convolutions, 1):
        hidden = F.conv2d(hidden, layer.weight, layer.bias, padding=1)
        hidden = hidden.clamp(min=0) if number < convolutions else hidden
        torch.testing.assert_close(features[f"convolution{number}"], hidden)
    torch.testing.assert_close(image, zero_filled + hidden)
    assert torch.equal(image, model(zero_filled, measured))


def test_data_consistency_keeps_the_measured_k_space():
    mask = truncation_mask((16, 12), 2)
    symmetric = mask & mirrored(mask)
    original = torch.rand(1, 1, 16, 12)
    model = build_model("vdsr", mask, convolutions=3, features=4, data_consistency=True)
    spectrum = torch.fft.fft2(model(*UndersamplingOperator(mask)(original)))
    torch.testing.assert_close(
        spectrum[0, 0][symmetric], torch.fft.fft2(original)[0, 0][symmetric], atol=1e-4, rtol=1e-4
    )
