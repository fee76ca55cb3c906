"""Random fields of virtual subjects: noise of known spectra, invertible warps, distances."""

import numpy as np
import pytest

from kdmri_lib.datasets.fields import (
    band_noise,
    declared_phase,
    diffeomorphic_displacement,
    measured,
    power_law_noise,
    sheet_distance,
    smooth_phase,
)
from kdmri_lib.declarations import Dataset


def test_rician_noise_has_rayleigh_mean_without_signal():
    noise = measured(np.random.default_rng(0), np.zeros((200, 200), np.float32), 2.0)
    assert noise.mean() == pytest.approx(2 * np.sqrt(np.pi / 2), rel=0.01)


def test_complex_noise_is_white_in_k_space_and_of_its_strength_at_any_phase():
    rng, phase = np.random.default_rng(1), np.linspace(-3, 3, 256, dtype=np.float32)
    noise = measured(rng, np.zeros((4, 256, 256), np.float32), 2.0, phase)
    kspace = np.fft.fft2(noise, norm="ortho")
    for part in (noise.real, noise.imag, kspace.real, kspace.imag):
        assert part.std() == pytest.approx(2, rel=0.01) and abs(part.mean()) < 0.02
    assert abs(np.corrcoef(kspace[:, 1:].ravel(), kspace[:, :-1].ravel())[0, 1]) < 0.01
    assert abs((noise**2).mean()) < 0.05, "parts of one strength, without correlation"


def test_a_scanners_phase_is_smooth_and_a_few_radians_over_the_field_of_view():
    phases = np.stack([smooth_phase(np.random.default_rng(seed), (2, 96, 60)) for seed in range(40)])
    extent = np.ptp(phases.reshape(80, -1), axis=1)
    assert extent.min() > 0.5 and extent.max() < 8 and 1.5 < np.median(extent) < 5
    assert np.abs(np.diff(phases, axis=2)).max() < 0.3 and np.abs(np.diff(phases, axis=3)).max() < 0.3
    assert np.ptp(phases.mean(axis=(1, 2, 3))) > np.pi, "any constant"


def test_a_data_set_of_magnitudes_has_no_phase_and_a_complex_one_another_for_each_volume():
    about = {"train": 1, "validation": 1, "test": 1, "slices_per_volume": 2}
    dataset = Dataset(name="x", source="cardiac_phantom", shape=(16, 16), **about)
    assert declared_phase(dataset, 1, 2) is None
    dataset = dataset.model_copy(update={"domain": "complex"})
    first, again, second, named = (declared_phase(dataset, whose, 2) for whose in (1, 1, 2, "mni152"))
    assert first.shape == (2, 16, 16) and np.array_equal(first, again)
    assert not np.allclose(first, second) and not np.allclose(first, named)


def test_warps_are_invertible():
    displacement = diffeomorphic_displacement(np.random.default_rng(0), (20, 20, 20), smoothness=4, amplitude=1.5)
    jacobian = np.stack([np.stack(np.gradient(d)) for d in displacement]) + np.eye(3)[:, :, None, None, None]
    assert np.linalg.det(jacobian.transpose(2, 3, 4, 0, 1)).min() > 0


def test_sheet_distance_of_a_plane():
    x = np.arange(10.0) * np.ones((10, 1))
    np.testing.assert_allclose(sheet_distance(0.3 * (x - 4), 1.0), np.abs(x - 4))


def power(noise):
    """Share of the power at each frequency (cycles per step), and the frequencies."""
    spectrum = np.abs(np.fft.fft2(noise)) ** 2
    frequency = np.hypot(np.fft.fftfreq(len(noise))[:, None], np.fft.fftfreq(noise.shape[1]))
    return spectrum / spectrum.sum(), frequency


def test_noise_of_a_band_has_the_wavelengths_of_that_band():
    noise = band_noise(np.random.default_rng(0), (128, 128), low=6, high=24)
    assert noise.dtype == np.float32 and noise.std() == pytest.approx(1, abs=1e-3)
    share, frequency = power(noise)
    assert share[(frequency > 1 / 40) & (frequency < 1 / 5)].sum() > 0.95


def test_power_law_noise_falls_as_it_should():
    noise = power_law_noise(np.random.default_rng(0), (256, 256), 1.0, high=64)
    share, frequency = power(noise)
    assert noise.std() == pytest.approx(1, abs=1e-3) and share[frequency < 1 / 64].sum() < 1e-6
    low, high = (share[(frequency > f) & (frequency < 1.2 * f)].mean() for f in (0.05, 0.2))
    assert low / high == pytest.approx(16, rel=0.2), "amplitude as 1/f, power as 1/f²"
