"""The phase of k-space's centre: none of what is nowhere negative, and right of what is smooth."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdmri_lib.channels import magnitude
from kdmri_lib.datasets.preparing import source
from kdmri_lib.datasets.sample import sample
from kdmri_lib.datasets.writing import checked_volume
from kdmri_lib.declared import declared_operator
from kdmri_lib.deployment.phase import MOST, centre_of, low_resolution, squares, unit_phase, without_phase
from kdmri_lib.deployment.reconstruct import How, reconstruct_file
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import psnr, reconstruct
from kdmri_lib.masks import published_mask
from kdmri_lib.models.base import build_model
from kdmri_lib.storage import PROJECT
from kdmri_study.models import committed as committed_networks
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
    for kept, expected in (([0, 1, 2, -1, -2, 5], 2), ([0, 1, -2], 0), ([0, 1, 2, 3, -1], 1), ([1, -1], -1)):
        lines = np.zeros(12, bool)
        lines[kept] = True
        assert centre_of(lines) == expected
    assert centre_of(np.ones(12, bool)) == 5 and centre_of(np.ones(13, bool)) == 6


@pytest.mark.parametrize("angle", [0.3, 1.5, 3.1, -2.0])
def test_a_constant_phase_is_found_and_taken_off(angle):
    image = scans.objects(1, SHAPE)
    kspace = kspace_of(image * np.exp(1j * angle))
    low = low_resolution(kspace, LINES)
    weighted, energy = squares(low)
    assert np.sqrt(weighted / energy) == pytest.approx(abs(angle), abs=1e-3)
    np.testing.assert_allclose(without_phase(kspace, unit_phase(low)), kspace_of(image), atol=1e-3)


REFUSED = r"'in.npy': images with a phase, 0.\d\d rad at low resolution, but stand-in.onnx was made for magnitudes"
CASES = [
    (0, 1, ""),
    (0.2, 1, ""),
    (1.0, 1, REFUSED),
    (3.0, 1, "use a complex model"),
    (0, 4, "'in.npy', coil 0: images"),
]


@pytest.mark.parametrize(("phase", "coils", "message"), CASES)
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
    """One slice of a person's head by the student of brain 4x: dB, the phase taken off where asked, and its size, rad."""
    mask = published_mask("brain", 4, (240, 240))
    lines, image = mask[:, 0], sample()[0][1:2]
    network = build_model("dccnn", mask, cascades=5, convolutions=3, features=32).eval()
    network.load_state_dict(load_weights(PROJECT / "results/models/brain_4x_distilled.safetensors"))

    def committed(radians, shape, off):
        field = {"constant": np.exp(1j * radians), "smooth": scans.smooth_phase((240, 240), radians)}[shape]
        kspace = (np.fft.fft2(image * field, norm="ortho") * mask).astype(np.complex64)
        low = low_resolution(kspace, lines)
        weighted, energy = squares(low)
        kspace = without_phase(kspace, unit_phase(low)) if off else kspace
        zero_filled = np.fft.ifft2(kspace * mask, norm="ortho")
        scale = np.abs(zero_filled).max()
        parts = [(v[:, None] / scale).astype(np.float32) for v in (abs(zero_filled), zero_filled.real)]
        with torch.no_grad():
            result = scale * network(*map(torch.from_numpy, parts))[:, 0].numpy()
        return psnr(image, result, 1.0), float(np.sqrt(weighted / energy)[0])

    best, none = committed(0, "constant", off=False)
    assert none < 1e-6
    assert committed(0, "constant", off=True)[0] == pytest.approx(best, abs=1e-4)
    assert committed(1.57, "constant", off=False)[0] < 15  # nothing warned of this
    assert committed(1.57, "constant", off=True)[0] == pytest.approx(best, abs=0.01)
    cost, found = committed(0.6, "smooth", off=False)
    assert found == pytest.approx(MOST, abs=0.01) and 0.5 < best - cost < 1  # where it is refused
    assert best - committed(1, "smooth", off=True)[0] < 1


COMPLEX = [k for k in committed_networks() if k.run.dataset.domain == "complex" and k.method == "distilled"]


@pytest.mark.parametrize("network", COMPLEX, ids=lambda network: network.weights.stem)
def test_a_phase_costs_a_committed_complex_network_next_to_nothing(network):
    """On the magnitude of a test subject, given at a phase."""
    data = network.run.dataset.model_copy(update={"domain": None, "slices_per_volume": 4})
    image, attributes = source(data.source).make(data, data.train + data.validation + 1)
    image = checked_volume("one", "test", image, attributes, data.shape).image
    operator, model = declared_operator(network.run.dataset, network.run.undersampling), network.network()

    def reached(phase: np.ndarray) -> float:
        result = reconstruct(model, operator, (image * phase).astype(np.complex64))
        return psnr(image, magnitude(result), float(image.max()))

    none = reached(np.ones(data.shape))
    for angle in (0.5, 1.57, np.pi, 4.0):
        assert reached(np.full(data.shape, np.exp(1j * angle))) == pytest.approx(none, abs=0.05)
    assert none - reached(scans.smooth_phase(data.shape, 1)) < 0.3
    assert none - reached(scans.smooth_phase(data.shape, 1.5)) < 0.6  # from -1.5 to 1.5 rad over the field of view
