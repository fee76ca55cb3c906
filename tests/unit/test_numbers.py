"""Metrics and statistics against independent calculations and published tables."""

import math

import numpy as np
import pytest
from kdmri_lib.sampling import Undersampling, cartesian_mask
from skimage.metrics import structural_similarity

from kdmri_lib.datasets.prepared import Volume
from kdmri_lib.evaluation import METRICS, evaluate, hfn, measure, nmse, psnr, ssim
from kdmri_lib.statistics import compare, holm, rank_biserial

RNG = np.random.default_rng(0)
TARGET = RNG.random((3, 16, 20)).astype(np.float32)
IMAGE = (TARGET + 0.1 * RNG.standard_normal(TARGET.shape)).astype(np.float32)


def test_psnr_of_a_known_error():
    target = np.full((2, 8, 8), 2.0, np.float32)
    assert psnr(target, target - 0.2, data_range=2.0) == pytest.approx(20, abs=1e-4)


def test_volume_ssim_is_the_mean_over_slices_on_the_volumes_range():
    peak = float(TARGET.max())
    slices = [structural_similarity(t, i, data_range=peak) for t, i in zip(TARGET, IMAGE, strict=True)]
    assert ssim(TARGET, IMAGE, peak) == pytest.approx(np.mean(slices), abs=1e-5)


def test_nmse_and_hfn_written_out_again():
    error = (TARGET - IMAGE).astype(np.float64)
    assert nmse(TARGET, IMAGE) == pytest.approx((error**2).sum() / (TARGET.astype(np.float64) ** 2).sum(), rel=1e-5)

    def laplacian(volume):
        padded = np.pad(volume.astype(np.float64), ((0, 0), (1, 1), (1, 1)), mode="symmetric")
        middle = padded[:, 1:-1, 1:-1]
        return padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:] - 4 * middle

    expected = (laplacian(error) ** 2).sum() / (laplacian(TARGET) ** 2).sum()
    assert hfn(TARGET, IMAGE) == pytest.approx(expected, rel=1e-4)
    assert hfn(TARGET[0], IMAGE[0]) > 0


def test_a_perfect_image():
    with np.errstate(divide="ignore"):
        result = measure(TARGET, TARGET + 0)
    assert result["psnr"] == math.inf and result["ssim"] == pytest.approx(1) and result["nmse"] == result["hfn"] == 0


def test_evaluate_gives_a_row_a_volume_and_a_row_a_slice_and_skips_empty_slices():
    image = TARGET.copy()
    image[1] = 0
    volume = Volume("a", "test", image, {"kind": "phantom"})
    volumes, slices = evaluate(None, Undersampling(cartesian_mask((16, 20), 2, centre=2)), [volume])
    assert volumes[["set", "kind", "subject", "slices"]].values.tolist() == [["test", "phantom", "a", 3]]
    assert slices["slice"].tolist() == [0, 2]
    assert slices.psnr.notna().all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_reconstruction_with_nan_or_infinite_values_has_no_numbers(wrong):
    volume = Volume("sick", "test", TARGET, {"kind": "phantom"})
    tables = evaluate(
        lambda zero_filled, measured: zero_filled * wrong, Undersampling(np.ones((16, 20), bool)), [volume]
    )
    assert [len(table) for table in tables] == [1, 3]
    assert all(table[list(METRICS)].isna().all(axis=None) for table in tables)


def test_where_a_seed_failed_there_is_no_mean_and_no_test():
    values = [30.0, 31.0, math.nan, 33.0]
    assert np.isnan(compare(np.array(values), np.zeros(4))[:5]).all()
    np.testing.assert_allclose(holm([0.01, math.nan, 0.2]), [0.02, math.nan, 0.2])


def test_wilcoxon_against_a_published_example():
    """Wilcoxon (1945), the paired example (Darwin's maize data as there): W- = 24, exact two-sided p = 0.0413."""
    crossed_minus_self = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])
    result = compare(crossed_minus_self, np.zeros(15))
    assert result.p == pytest.approx(0.0413, abs=5e-4)
    assert result.effect == pytest.approx((96 - 24) / 120)
    assert result.pairs == 15 and result.difference == pytest.approx(crossed_minus_self.mean())
    assert result.low < result.difference < result.high


def test_smallest_p_of_n_pairs_that_all_agree():
    assert compare(np.arange(1, 9), np.zeros(8)).p == pytest.approx(2 / 2**8)


def test_comparing_a_thing_with_itself():
    result = compare(np.ones(6), np.ones(6))
    assert (result.p, result.effect, result.difference, result.low, result.high) == (1, 0, 0, 0, 0)


def test_holm_by_hand():
    """Sorted p 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1, never falling."""
    np.testing.assert_allclose(holm([0.02, 0.01, 0.04, 0.03]), [0.06, 0.04, 0.06, 0.06])
    assert len(holm([])) == 0


def test_rank_biserial_bounds():
    assert rank_biserial(np.array([1.0, 2.0])) == 1
    assert rank_biserial(np.array([-1.0, -2.0])) == -1
    assert rank_biserial(np.array([1.0, -1.0])) == 0
