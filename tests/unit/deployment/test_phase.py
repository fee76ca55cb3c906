"""The phase of k-space's centre: none of what is nowhere negative, and right of what is smooth."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.datasets.sample import sample
from kdmri_lib.deployment.phase import MOST, centre_of, low_resolution, squares, unit_phase, without_phase
from kdmri_lib.deployment.reconstruct import How, reconstruct_file
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import psnr
from kdmri_lib.masks import published_mask
from kdmri_lib.models.base import build_model
from kdmri_lib.storage import PROJECT
from kdmri_study.runs import load_weights
from tests.unit.deployment import scans

SHAPE = (48, 40)
LINES = scans.every_other_line(40)


def kspace_of(image):
    return np.fft.fft2(image, norm="ortho") * LINES


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(8, 8), (9, 12), (16, 7)]))
def test_images_that_are_nowhere_negative_have_none(seed, shape):
    """Even where most of the image is 0, and k-space undersampled."""
    image = np.random.default_rng(seed).random(shape) ** 20
    lines = np.fft.fftfreq(shape[1], 1 / shape[1])
    kspace = np.fft.fft2(image) * (abs(lines) < 3)
    low = low_resolution(kspace, abs(lines) < 3)
    assert np.abs(np.angle(low)).max() < 1e-4
    np.testing.assert_allclose(without_phase(kspace, unit_phase(low)), kspace, atol=1e-4)


def test_the_centre_of_a_mask():
    for kept, expected in (([0, 1, 2, -1, -2, 5], 2), ([0, 1, -2], 0), ([1, -1], -1), (range(12), 5)):
        lines = np.zeros(12, bool)
        lines[kept] = True
        assert centre_of(lines) == expected


@pytest.mark.parametrize("angle", [0.3, 1.5, 3.1, -2.0])
def test_a_constant_phase_is_found_and_taken_off(angle):
    image = scans.objects(1, SHAPE)
    kspace = kspace_of(image * np.exp(1j * angle))
    low = low_resolution(kspace, LINES)
    weighted, energy = squares(low)
    assert np.sqrt(weighted / energy) == pytest.approx(abs(angle), abs=1e-3)
    np.testing.assert_allclose(without_phase(kspace, unit_phase(low)), kspace_of(image), atol=1e-3)


REFUSED = r"'in.npy': images with a phase, 0.\d\d rad at low resolution, but stand-in.onnx was made for magnitudes"


@pytest.mark.parametrize(
    ("phase", "coils", "message"),
    [(0.2, 1, ""), (1.0, 1, REFUSED), (3.0, 1, "use a complex model"), (0, 4, "'in.npy', coil 0: images")],
)
def test_a_magnitude_model_refuses_a_phase_and_takes_it_off_on_request(tmp_path, phase, coils, message):
    network = scans.StandIn(LINES, SHAPE, domain="magnitude")
    image = scans.objects(2, SHAPE)[:, None] * scans.smooth_phase(SHAPE, phase)
    image = image * (scans.sensitivities(SHAPE) if coils == 4 else 1)
    np.save(tmp_path / "in.npy", kspace_of(image).astype(np.complex64).squeeze())
    with pytest.raises(StudyError, match=message) if message else nullcontext():
        reconstruct_file(network, tmp_path / "in.npy", tmp_path / "out.h5")
    assert (tmp_path / "out.h5").exists() == (not message)
    reconstruct_file(network, tmp_path / "in.npy", tmp_path / "out.h5", How(remove_phase=True), force=True)


def test_what_a_phase_costs_a_committed_network_and_what_taking_it_off_gives_back():
    """One slice of a person's head by the student of brain 4x, in dB."""
    mask, image = published_mask("brain", 4, (240, 240)), sample()[0][1:2]
    network = build_model("dccnn", mask, cascades=5, convolutions=3, features=32).eval()
    network.load_state_dict(load_weights(PROJECT / "results/models/brain_4x_distilled.safetensors"))

    def reached(phase, off: bool) -> float:
        kspace = (np.fft.fft2(image * phase, norm="ortho") * mask).astype(np.complex64)
        kspace = without_phase(kspace, unit_phase(low_resolution(kspace, mask[:, 0]))) if off else kspace
        zero_filled = np.fft.ifft2(kspace * mask, norm="ortho")
        scale = np.abs(zero_filled).max()
        parts = [(v[:, None] / scale).astype(np.float32) for v in (abs(zero_filled), zero_filled.real)]
        with torch.no_grad():
            return psnr(image, scale * network(*map(torch.from_numpy, parts))[:, 0].numpy(), 1.0)

    best, smooth = reached(1, off=False), scans.smooth_phase((240, 240), 0.6)
    assert reached(1, off=True) == pytest.approx(best, abs=1e-4)
    assert reached(np.exp(1.57j), off=False) < 15 and reached(np.exp(1.57j), off=True) == pytest.approx(best, abs=0.01)
    weighted, energy = squares(low_resolution(np.fft.fft2(image * smooth) * mask, mask[:, 0]))
    assert np.sqrt(weighted / energy) == pytest.approx(MOST, abs=0.01)  # where it is refused
    assert 0.5 < best - reached(smooth, off=False) < 1
    assert best - reached(scans.smooth_phase((240, 240), 1), off=True) < 1
