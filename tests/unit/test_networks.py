"""DC-CNN: the paper's parameter counts, the residual, features by name, and an independent forward pass."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kdmri_lib.sampling import Undersampling, cartesian_mask, mirrored, truncation_mask

from kdmri_lib.errors import StudyError
from kdmri_lib.models.base import build_model, multiply_accumulates, network_of, parameter_count
from kdmri_lib.models.bicubic import Bicubic
from kdmri_study.study import Study

MASK = cartesian_mask((16, 12), 4, centre=2)


def inputs(seed=0):
    image = torch.rand(2, 1, 16, 12, generator=torch.Generator().manual_seed(seed))
    return Undersampling(MASK)(image)


def test_parameter_counts_are_the_papers():
    profile = Study("quick").profile
    assert parameter_count(network_of(profile.teacher)) == 141_765
    assert parameter_count(network_of(profile.student)) == 49_285
    assert multiply_accumulates(network_of(profile.student)) == 5 * 9 * (32 + 32 * 32 + 32)


def test_vdsr_is_appendix_a():
    teacher, student = (build_model("vdsr", MASK, convolutions=n) for n in (11, 7))
    assert parameter_count(teacher) == 333_569 and parameter_count(student) == 185_857
    assert teacher.centre_features == ["convolution6"] and student.centre_features == ["convolution4"]
    zero_filled, measured = inputs()
    image, features = student(zero_filled, measured, features=["convolution4"])
    hidden = zero_filled
    for number, layer in enumerate(student.convolutions, 1):
        hidden = F.conv2d(hidden, layer.weight, layer.bias, padding=1)
        hidden = hidden.clamp(min=0) if number < 7 else hidden
        if number == 4:
            torch.testing.assert_close(features["convolution4"], hidden)
    torch.testing.assert_close(image, zero_filled + hidden)


def test_vdsr_with_data_consistency_keeps_the_measured_k_space():
    mask = truncation_mask((16, 12), 2)
    symmetric = mask & mirrored(mask)
    original = torch.rand(1, 1, 16, 12)
    model = build_model("vdsr", mask, convolutions=3, features=4, data_consistency=True)
    spectrum = torch.fft.fft2(model(*Undersampling(mask)(original)))
    torch.testing.assert_close(
        spectrum[0, 0][symmetric], torch.fft.fft2(original)[0, 0][symmetric], atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("residual", [True, False])
def test_forward_pass_written_out_again(residual):
    """Convolutions by F.conv2d and data consistency by complex FFT, in float64."""
    model = build_model("dccnn", MASK, cascades=2, convolutions=3, features=4, residual=residual).double()
    zero_filled, measured = (value.double() for value in inputs())
    kspace_mask, image = torch.from_numpy(MASK), zero_filled
    # The complex measurement, of which `measured` is the real part of the inverse transform.
    original = torch.rand(2, 1, 16, 12, generator=torch.Generator().manual_seed(0)).double()
    kspace = torch.fft.fft2(original) * kspace_mask
    for cascade in model.cascades:
        hidden = image
        for number, layer in enumerate(cascade):
            hidden = F.conv2d(hidden, layer.weight, layer.bias, padding=1)
            if number < 2:
                hidden = hidden.clamp(min=0)
        predicted = torch.fft.fft2(image + hidden if residual else hidden)
        image = torch.fft.ifft2(torch.where(kspace_mask, kspace, predicted)).real
    torch.testing.assert_close(model(zero_filled, measured), image, atol=1e-5, rtol=1e-5)


def test_features_by_name_are_after_the_relu_and_change_nothing():
    model = build_model("dccnn", MASK, cascades=2, convolutions=3, features=4)
    image, features = model(*inputs(), features=["cascade1.convolution2", "cascade2.convolution3"])
    assert torch.equal(image, model(*inputs()))
    assert features["cascade1.convolution2"].shape == (2, 4, 16, 12)
    assert features["cascade1.convolution2"].min() == 0
    assert features["cascade2.convolution3"].shape == (2, 1, 16, 12)


def test_attention_is_taken_at_the_middle_convolution():
    profile = Study("quick").profile
    assert network_of(profile.teacher).centre_features == [f"cascade{c}.convolution3" for c in range(1, 6)]
    assert network_of(profile.student).centre_features == [f"cascade{c}.convolution2" for c in range(1, 6)]


def test_unknown_names_are_errors_that_name_them():
    model = build_model("dccnn", MASK, cascades=1)
    with pytest.raises(StudyError, match=r"cascade2\.convolution1"):
        model(*inputs(), features=["cascade2.convolution1"])
    with pytest.raises(StudyError, match="unknown model 'unet'"):
        build_model("unet", MASK)
    with pytest.raises(StudyError, match="casacdes"):
        build_model("dccnn", MASK, casacdes=3)


def test_branches_go_on_from_the_teachers_cascades_and_leave_its_output_alone():
    model = build_model("student_friendly", MASK, cascades=3, convolutions=4, student_convolutions=2, features=4)
    zero_filled, measured = inputs()
    image, asked = model(zero_filled, measured, features=["branch1", "branch2", "cascade2.convolution3"])
    plain = build_model("dccnn", MASK, cascades=3, convolutions=4, features=4)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("student.")})
    expected, features = plain(zero_filled, measured, features=["cascade2.convolution3"])
    torch.testing.assert_close(image, expected)
    torch.testing.assert_close(asked["cascade2.convolution3"], features["cascade2.convolution3"])
    assert model.branch_names == ["branch1", "branch2"]
    # Branch 1: the teacher's first cascade, then the student's second and third.
    mixed = build_model("dccnn", MASK, cascades=3, convolutions=4, features=4)
    mixed.cascades = torch.nn.ModuleList([model.cascades[0], *model.student.cascades[1:]])
    torch.testing.assert_close(asked["branch1"], mixed(zero_filled, measured))


@pytest.mark.parametrize("width", [5, 12, 31])
def test_any_width_where_a_line_mask_allows(width):
    model = build_model("dccnn", MASK, cascades=1, features=4)
    image = torch.rand(1, 1, 16, width)
    assert model(*Undersampling(MASK)(image)).shape == image.shape


def test_masks_of_points_work_too():
    mask = np.random.default_rng(0).random((16, 12)) < 0.4
    model = build_model("dccnn", mask, cascades=1, features=4)
    assert model(*Undersampling(mask)(torch.rand(1, 1, 16, 12))).shape == (1, 1, 16, 12)


@pytest.mark.parametrize(("factor", "error"), [(2, 0.02), (4, 0.07)])  # of 16 and of 8 samples a period
def test_bicubic_of_a_smooth_image(factor, error):
    """A low-frequency image is given back at the low-resolution pixels, and closely between them."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    image = (2 + torch.sin(2 * torch.pi * x / 32) + torch.cos(2 * torch.pi * y / 32))[None, None]
    enlarged = Bicubic(factor)(image, image)
    torch.testing.assert_close(enlarged[..., ::factor, ::factor], image[..., ::factor, ::factor])
    inner = (slice(None), slice(None), slice(4, -8), slice(4, -8))
    torch.testing.assert_close(enlarged[inner], image[inner], atol=error, rtol=0)
