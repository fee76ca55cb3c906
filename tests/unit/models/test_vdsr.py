"""VDSR: appendix A's sizes, an independent forward pass, and data consistency after it."""

import pytest
import torch
import torch.nn.functional as F

from kdmri_lib.masks import mirrored, truncation_mask
from kdmri_lib.models.base import build_model, parameter_count
from kdmri_lib.operators import UndersamplingOperator


@pytest.mark.parametrize(("channels", "teacher", "student"), [(1, 333_569, 185_857), (2, 334_722, 187_010)])
def test_sizes_and_middle_convolutions_are_those_of_appendix_a(mask, channels, teacher, student):
    for count, parameters, middle in ((11, teacher, "convolution6"), (7, student, "convolution4")):
        network = build_model("vdsr", mask, channels, convolutions=count)
        assert parameter_count(network) == parameters and network.centre_features == [middle]


def test_forward_pass_written_out_again(mask, measurement):
    """`test_base` looks at the features."""
    model, hidden = build_model("vdsr", mask, convolutions=4), measurement.zero_filled
    for number, layer in enumerate(model.convolutions, 1):
        hidden = F.conv2d(hidden, layer.weight, layer.bias, padding=1)
        hidden = hidden.clamp(min=0) if number < 4 else hidden
    torch.testing.assert_close(model(*measurement), measurement.zero_filled + hidden)


def test_data_consistency_keeps_the_measured_k_space():
    mask = truncation_mask((16, 12), 2)
    symmetric = mask & mirrored(mask)
    original = torch.rand(1, 1, 16, 12)
    model = build_model("vdsr", mask, convolutions=3, features=4, data_consistency=True)
    spectrum = torch.fft.fft2(model(*UndersamplingOperator(mask)(original)))
    torch.testing.assert_close(
        spectrum[0, 0][symmetric], torch.fft.fft2(original)[0, 0][symmetric], atol=1e-4, rtol=1e-4
    )
