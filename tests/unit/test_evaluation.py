"""Metrics against independent calculations, and a row for each volume and each slice."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from kdmri_lib.datasets.prepared import Volume
from kdmri_lib.evaluation import METRICS, evaluate, hfe, measure, psnr, reconstruct, ssim
from kdmri_lib.masks import cartesian_mask
from kdmri_lib.models.base import build_model
from kdmri_lib.operators import UndersamplingOperator
from tests.oracles import direct_dft, inverse_dft

RNG = np.random.default_rng(0)
TARGET = RNG.random((3, 16, 20)).astype(np.float32)
IMAGE = (TARGET + 0.1 * RNG.standard_normal(TARGET.shape)).astype(np.float32)


def test_volume_ssim_is_the_mean_over_slices_on_the_volumes_range():
    peak = float(TARGET.max())
    slices = [structural_similarity(t, i, data_range=peak) for t, i in zip(TARGET, IMAGE, strict=True)]
    assert ssim(TARGET, IMAGE, peak) == pytest.approx(np.mean(slices), abs=1e-5)


def test_psnr_nmse_and_hfe_written_out_again():
    target, error = TARGET.astype(np.float64), (TARGET - IMAGE).astype(np.float64)

    def laplacian(volume):
        padded = np.pad(volume, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
        middle = padded[:, 1:-1, 1:-1]
        return padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:] - 4 * middle

    found = measure(TARGET, IMAGE)
    assert found["psnr"] == pytest.approx(10 * np.log10(target.max() ** 2 / (error**2).mean()), rel=1e-5)
    assert found["nmse"] == pytest.approx((error**2).sum() / (target**2).sum(), rel=1e-5)
    assert found["hfe"] == pytest.approx((laplacian(error) ** 2).sum() / (laplacian(target) ** 2).sum(), rel=1e-4)
    assert hfe(TARGET[0], IMAGE[0]) > 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_reconstruction_with_nan_or_infinite_values_has_no_numbers(wrong):
    volume = Volume("sick", "test", TARGET, {"kind": "phantom"})
    operator = UndersamplingOperator(np.ones((16, 20), bool))
    tables = evaluate(lambda zero_filled, measured: zero_filled * wrong, operator, [volume])
    assert [len(table) for table in tables] == [1, 3]
    assert all(table[list(METRICS)].isna().all(axis=None) for table in tables)


def test_a_slice_is_measured_on_its_own_maximum_a_volume_on_its_own_and_an_empty_slice_in_its_volume_alone():
    image = TARGET * np.array([1, 0, 0.1], np.float32)[:, None, None]
    operator = UndersamplingOperator(cartesian_mask((16, 20), 2, centre=2))
    volumes, slices = evaluate(None, operator, [Volume("a", "test", image, {"kind": "phantom", "person": "ann"})])
    assert volumes[["set", "kind", "subject", "slices"]].values.tolist() == [["test", "phantom", "a", 3]]
    assert slices["slice"].tolist() == [0, 2]
    errors = ((reconstruct(None, operator, image) - image).astype(np.float64) ** 2).mean(axis=(1, 2))
    expected = 10 * np.log10(image.max(axis=(1, 2)).astype(float)[[0, 2]] ** 2 / errors[[0, 2]])
    np.testing.assert_allclose(slices.psnr, expected, rtol=1e-5)
    np.testing.assert_allclose(volumes.psnr, 10 * np.log10(float(image.max()) ** 2 / errors.mean()), rtol=1e-5)
    assert volumes.person.tolist() == ["ann"] and slices.person.tolist() == ["ann"] * 2


def test_complex_volumes_are_measured_by_their_magnitude():
    """The zero-filled image's by the direct transform."""
    mask, rng = cartesian_mask((16, 20), 4, centre=2), np.random.default_rng(1)
    phased = (TARGET * np.exp(2j * rng.standard_normal((1, 16, 20)))).astype(np.complex64)
    expected = np.abs([inverse_dft(direct_dft(image) * mask) for image in phased.astype(np.complex128)])
    operator = UndersamplingOperator(mask)
    np.testing.assert_allclose(np.abs(reconstruct(None, operator, phased)), expected, atol=1e-5)
    volumes, slices = evaluate(None, operator, [Volume("a", "test", phased, {"kind": "phantom"})])
    decibels = psnr(TARGET, expected.astype(np.float32), float(TARGET.max()))
    assert volumes.psnr[0] == pytest.approx(decibels, abs=1e-3)
    assert len(slices) == 3 and slices[list(METRICS)].notna().all(axis=None)


def test_reconstructions_are_of_all_slices_however_many_go_at_once_and_without_a_network_zero_filled():
    mask = cartesian_mask((16, 20), 4, centre=2)
    model, operator = build_model("dccnn", mask, cascades=1, features=4).eval(), UndersamplingOperator(mask)
    expected = [np.abs(inverse_dft(direct_dft(image) * mask)) for image in TARGET.astype(np.float64)]
    zero_filled = reconstruct(None, operator, TARGET)
    assert zero_filled.dtype == np.float32
    np.testing.assert_allclose(zero_filled, expected, atol=1e-5)
    whole = reconstruct(model, operator, TARGET)
    np.testing.assert_allclose(reconstruct(model, operator, TARGET, batch=2), whole, atol=1e-6)
    assert np.abs(whole - zero_filled).max() > 1e-3, "the network did something"
