"""Fourier transforms, masks, zero-filling and data consistency, against direct float64 sums and the complex operator."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kdmri_lib.sampling import (
    PUBLISHED_LINES,
    Undersampling,
    cartesian_mask,
    check_mask,
    gaussian_mask_2d,
    line_axis,
    published_mask,
    truncation_mask,
    unmirrored_share,
)

from kdmri_lib.errors import StudyError
from kdmri_lib.fourier import centred, root_sum_of_squares, to_image, to_kspace, uncentred
from kdmri_lib.models.data_consistency import DataConsistency

sizes = st.tuples(st.integers(4, 17), st.integers(4, 17))
seeds = st.integers(0, 2**31)


def direct_dft(image: np.ndarray) -> np.ndarray:
    """The orthonormal 2-D DFT by its definition, in complex128, without any FFT."""

    def matrix(n):
        return np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / np.sqrt(n)

    return matrix(image.shape[0]) @ image @ matrix(image.shape[1]).T


def complex_consistency(prediction, image, mask, strength):
    """Eq. 2 as written: average measured and predicted k-space, then the real part, in float64 by the direct DFT."""
    predicted, measured = direct_dft(prediction), direct_dft(image) * mask
    averaged = (predicted + strength * measured) / (1 + strength) if math.isfinite(strength) else measured
    corrected = np.where(mask, averaged, predicted)
    return np.conj(direct_dft(np.conj(corrected))).real


def random_mask(rng, shape, kind):
    if kind == "points":
        mask = rng.random(shape) < 0.4
    else:
        lines = rng.random(shape[0] if kind == "rows" else shape[1]) < 0.4
        mask = np.broadcast_to(lines[:, None] if kind == "rows" else lines[None, :], shape).copy()
    mask[0, 0] = True
    if kind == "rows":
        mask[0] = True
    elif kind == "columns":
        mask[:, 0] = True
    return mask


@given(sizes, seeds)
def test_fft_is_the_orthonormal_dft(shape, seed):
    image = np.random.default_rng(seed).standard_normal(shape)
    kspace = to_kspace(torch.from_numpy(image))
    np.testing.assert_allclose(kspace.numpy(), direct_dft(image), atol=1e-10)
    np.testing.assert_allclose(to_image(kspace).numpy(), image, atol=1e-12)
    assert float(kspace.abs().square().sum()) == pytest.approx(float((image**2).sum()))


@given(sizes)
def test_centring_moves_zero_frequency_to_the_middle_and_back(shape):
    kspace = torch.zeros(shape)
    kspace[0, 0] = 1
    assert centred(kspace)[shape[0] // 2, shape[1] // 2] == 1
    assert torch.equal(uncentred(centred(kspace)), kspace)


def test_root_sum_of_squares_of_known_coils():
    coils = torch.tensor([3 + 0j, 0 + 4j]).reshape(1, 2, 1, 1)
    assert float(root_sum_of_squares(coils)) == pytest.approx(5)


@pytest.mark.parametrize(("key", "count"), PUBLISHED_LINES.items())
def test_published_masks_have_the_papers_lines(key, count):
    mask = published_mask(*key)
    assert mask.shape == count.shape
    assert line_axis(mask) == count.axis
    lines = mask[:, 0] if count.axis == 0 else mask[0]
    assert lines.sum() == count.kept
    block = np.r_[lines[-(count.centre // 2) :], lines[: count.centre - count.centre // 2]]
    assert block.all(), "the centre block around index 0 is contiguous"
    # The same seed gives the same mask, another seed another one.
    np.testing.assert_array_equal(mask, published_mask(*key))
    assert (mask != published_mask(*key, seed=1)).any()


def test_published_masks_leave_mirror_lines_out_as_stated():
    """38 to 65% of the kept lines have a mirror line that isn't kept, in the published masks; ours are drawn alike."""
    shares = [unmirrored_share(published_mask(*key)) for key in PUBLISHED_LINES]
    assert 0.25 < min(shares) <= max(shares) < 0.75


@given(st.integers(16, 64), st.floats(1, 8), seeds)
def test_cartesian_mask_keeps_floor_of_n_over_acceleration(size, acceleration, seed):
    mask = cartesian_mask((size, 5), acceleration, centre=2, seed=seed)
    assert mask[:, 0].sum() == int(size // acceleration)
    assert (mask == mask[:, :1]).all()


@given(st.integers(24, 40), st.integers(24, 40), st.floats(1, 5), seeds)
def test_gaussian_mask_keeps_its_points_and_the_centre(height, width, acceleration, seed):
    mask = gaussian_mask_2d((height, width), acceleration, centre=4, seed=seed)
    assert mask.sum() == int(height * width // acceleration)
    assert mask[:2, :2].all() and mask[-2:, -2:].all()


@given(st.integers(8, 33), st.integers(8, 33), st.sampled_from([2, 3, 4]))
def test_truncation_keeps_the_central_block_of_the_centred_k_space(height, width, factor):
    """Against cutting the block out of a centred spectrum and pasting it into zeros, index by index."""
    centred_mask = np.zeros((height, width), bool)
    kept = (height // factor, width // factor)
    for row in range(kept[0]):
        for column in range(kept[1]):
            centred_mask[height // 2 - kept[0] // 2 + row, width // 2 - kept[1] // 2 + column] = True
    np.testing.assert_array_equal(np.fft.fftshift(truncation_mask((height, width), factor)), centred_mask)


def test_truncation_of_the_papers_grid():
    mask = truncation_mask((256, 256), 4)
    assert mask.sum() == 64 * 64 and mask[0, 0] and mask[32 - 1, 32 - 1] and mask[-32, -32] and not mask[32, 0]


@pytest.mark.parametrize("make", [lambda a: cartesian_mask((20, 20), a), lambda a: gaussian_mask_2d((20, 20), a)])
@pytest.mark.parametrize("acceleration", [0.5, 0, -2, float("nan")])
def test_acceleration_below_one_is_refused(make, acceleration):
    with pytest.raises(StudyError, match=r"acceleration .* at least 1"):
        make(acceleration)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((3, 4), bool), r"shape \(3, 4\), expected \(4, 4\)"),
        (np.zeros((4, 4), bool), "keeps no line"),
        (np.full((4, 4), 0.5), "other than 0 and 1"),
    ],
)
def test_bad_masks_are_refused(mask, message):
    with pytest.raises(StudyError, match=message):
        check_mask(mask, (4, 4))


@settings(deadline=None)
@given(sizes, st.sampled_from(["rows", "columns", "points"]), seeds)
def test_undersampling_is_the_complex_operator(shape, kind, seed):
    rng = np.random.default_rng(seed)
    image, mask = rng.random(shape), random_mask(rng, shape, kind)
    operator = Undersampling(mask).double()
    zero_filled, measured = operator(torch.from_numpy(image)[None, None])
    direct = np.conj(direct_dft(np.conj(direct_dft(image) * mask)))
    np.testing.assert_allclose(zero_filled[0, 0].numpy(), np.abs(direct), atol=1e-6)
    np.testing.assert_allclose(measured[0, 0].numpy(), direct.real, atol=1e-6)


@settings(deadline=None)
@given(sizes, st.sampled_from(["rows", "columns", "points"]), st.sampled_from([0.0, 0.3, 5.0, math.inf]), seeds)
def test_data_consistency_is_equation_2(shape, kind, strength, seed):
    rng = np.random.default_rng(seed)
    prediction, image, mask = rng.random(shape), rng.random(shape), random_mask(rng, shape, kind)
    measured = Undersampling(mask).double()(torch.from_numpy(image)[None, None]).measured
    corrected = DataConsistency(mask, strength).double()(torch.from_numpy(prediction)[None, None], measured)
    expected = complex_consistency(prediction, image, mask, strength)
    # The matrices are kept in float32.
    np.testing.assert_allclose(corrected[0, 0].numpy(), expected, atol=1e-5)


@settings(deadline=None)
@given(st.integers(6, 16), st.integers(4, 9), seeds)
def test_a_strip_is_a_complete_smaller_problem(height, width, seed):
    """Zero-filling and data consistency of a strip along the fully sampled axis are the strip of the whole."""
    rng = np.random.default_rng(seed)
    mask = random_mask(rng, (height, 20), "rows")
    image, prediction = (torch.from_numpy(rng.random((1, 1, height, 20))).float() for _ in range(2))
    degrade, consistency = Undersampling(mask), DataConsistency(mask)
    whole = degrade(image)
    strip = degrade(image[..., 3 : 3 + width])
    torch.testing.assert_close(strip.zero_filled, whole.zero_filled[..., 3 : 3 + width])
    torch.testing.assert_close(
        consistency(prediction[..., 3 : 3 + width], strip.measured),
        consistency(prediction, whole.measured)[..., 3 : 3 + width],
    )


@pytest.mark.parametrize("kind", ["rows", "columns", "points"])
def test_the_true_image_is_consistent_with_itself(kind):
    rng = np.random.default_rng(3)
    image = torch.from_numpy(rng.random((2, 1, 12, 10))).float()
    mask = random_mask(rng, (12, 10), kind)
    torch.testing.assert_close(DataConsistency(mask)(image, Undersampling(mask)(image).measured), image)


def test_negative_strength_is_refused():
    with pytest.raises(StudyError, match="lambda is -1"):
        DataConsistency(np.ones((4, 4), bool), -1)
