"""Data consistency against equation 2 by direct sums in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.channels import as_channels
from kdmri_lib.errors import StudyError
from kdmri_lib.models.data_consistency import DataConsistency
from kdmri_lib.operators import UndersamplingOperator
from tests.oracles import direct_dft, inverse_dft, random_mask

sizes = st.tuples(st.integers(4, 17), st.integers(4, 17))
seeds = st.integers(0, 2**31)


def complex_consistency(prediction, image, mask, strength):
    """Eq. 2 as written: average measured and predicted k-space, complex, in float64 by the direct DFT."""
    predicted, measured = direct_dft(prediction), direct_dft(image) * mask
    averaged = (predicted + strength * measured) / (1 + strength) if math.isfinite(strength) else measured
    return inverse_dft(np.where(mask, averaged, predicted))


@settings(deadline=None)
@given(
    *(sizes, st.sampled_from(["rows", "columns", "points"]), st.sampled_from([0.0, 0.3, 5.0, math.inf])),
    *(st.sampled_from([1, 2]), seeds),
)
def test_data_consistency_is_equation_2(shape, kind, strength, channels, seed):
    rng = np.random.default_rng(seed)
    prediction, image = (rng.random(shape) + 1j * (channels - 1) * rng.random(shape) for _ in range(2))
    mask = random_mask(rng, shape, kind)
    target, predicted = (as_channels(values)[None, :channels] for values in (image, prediction))
    measured = UndersamplingOperator(mask).double()(target).measured_image
    corrected = DataConsistency(mask, strength, channels).double()(predicted, measured)
    expected = as_channels(complex_consistency(prediction, image, mask, strength))[None, :channels]
    # The matrices are kept in float32.
    torch.testing.assert_close(corrected, expected, atol=1e-5, rtol=0)


@settings(deadline=None)
@given(st.integers(6, 16), st.integers(4, 9), st.sampled_from([1, 2]), seeds)
def test_correcting_a_strip_is_the_strip_of_the_whole(height, width, channels, seed):
    """Along the fully sampled axis a strip is a complete smaller problem."""
    rng = np.random.default_rng(seed)
    mask = random_mask(rng, (height, 20), "rows")
    image, prediction = (torch.from_numpy(rng.random((1, channels, height, 20))).float() for _ in range(2))
    degrade, consistency = UndersamplingOperator(mask), DataConsistency(mask, channels=channels)
    part = (..., slice(3, 3 + width))
    torch.testing.assert_close(
        consistency(prediction[part], degrade(image[part]).measured_image),
        consistency(prediction, degrade(image).measured_image)[part],
    )


@pytest.mark.parametrize("kind", ["rows", "points"])
def test_a_prediction_in_bfloat16_is_corrected_in_float32(kind):
    rng = np.random.default_rng(4)
    image, mask = torch.from_numpy(rng.random((1, 1, 12, 10))).float(), random_mask(rng, (12, 10), kind)
    measured = UndersamplingOperator(mask)(image).measured_image
    prediction = (image * 0.9).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        corrected = DataConsistency(mask)(prediction, measured)
    assert corrected.dtype == torch.float32
    torch.testing.assert_close(corrected, DataConsistency(mask)(prediction.float(), measured), rtol=0, atol=0)


@pytest.mark.parametrize("strength", [-1, math.nan])
def test_negative_strength_is_refused(strength):
    with pytest.raises(StudyError, match=f"lambda is {strength}"):
        DataConsistency(np.ones((4, 4), bool), strength)
