"""What faster ways to compute a network lose, and what the scale costs that a scanner knows."""

import numpy as np
import pytest
import torch

from kdmri_lib.declared import declared_mask
from kdmri_lib.deployment.export import INNER
from kdmri_lib.devices import cpu_has_bfloat16
from kdmri_lib.operators import UndersamplingOperator
from kdmri_study.models import as_network, kept_run, quality_of_ways, scales

WAYS = [
    "PyTorch, float32",
    *(["PyTorch, bfloat16"] if cpu_has_bfloat16() else []),
    "ONNX Runtime, float32",
    "OpenVINO, float32",
    "OpenVINO, its own precision",
    "int8, kept in float32: nothing",
    "int8, kept in float32: first and last",
    f"int8, kept in float32: {INNER}",
]


def decibels(target, image):
    return 10 * np.log10(target.max() ** 2 / np.mean((target.astype(np.float64) - image) ** 2))


def by_hand(folder, volume, scale):
    """The run's network on a volume divided by `scale`, by NumPy's FFT, back in the volume's units."""
    mask = declared_mask(folder.run.dataset, folder.run.undersampling)
    zero_filled = np.fft.ifft2(np.fft.fft2(volume.image.astype(np.float64), norm="ortho") * mask, norm="ortho") / scale
    inputs = [torch.from_numpy(v[:, None].astype(np.float32)) for v in (np.abs(zero_filled), zero_filled.real)]
    with torch.no_grad():
        return folder.network()(*inputs)[:, 0].numpy() * scale


@pytest.fixture(scope="module")
def quality(deployed):
    folder, path, volumes = deployed
    return quality_of_ways(folder.study, kept_run(folder), path, volumes)


def test_every_way_is_beside_the_studys_own_numbers_and_loses_the_difference_to_float32(deployed, quality):
    folder, path, volumes = deployed
    assert list(quality["computed by"]) == WAYS
    assert list(quality.columns) == ["computed by", "psnr", "ssim", "psnr lost"]
    assert quality.psnr[0] == pytest.approx(folder.outcome.volumes.psnr.mean(), abs=1e-4)
    assert quality.ssim[0] == pytest.approx(folder.outcome.volumes.ssim.mean(), abs=1e-5)
    by_numpy = [decibels(volume.image, by_hand(folder, volume, 1)) for volume in volumes]
    assert quality.psnr[0] == pytest.approx(np.mean(by_numpy), abs=1e-3)
    assert len(list(path.parent.glob("student.int8-[012].onnx"))) == 3
    np.testing.assert_allclose(quality["psnr lost"], quality.psnr[0] - quality.psnr)
    for way, lost in zip(quality["computed by"], quality["psnr lost"], strict=True):
        most = 3 if "int8" in way else 0.5 if "bfloat16" in way or "own precision" in way else 1e-3
        assert abs(lost) < most and (lost != 0 or "int8" not in way), way


def test_an_exported_model_is_called_as_a_network_is(deployed, model):
    folder, _, (volume, _) = deployed
    measurement = UndersamplingOperator(model.mask)(torch.from_numpy(volume.image[:2, None]))
    with torch.no_grad():
        expected = folder.network()(*measurement)
    found = as_network(model)(*(v.transpose(2, 3).contiguous().transpose(2, 3) for v in measurement))
    assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-5)


def test_either_scale_against_a_reconstruction_by_hand(deployed):
    folder, path, volumes = deployed
    table = scales(kept_run(folder), path, volumes)
    mask = declared_mask(folder.run.dataset, folder.run.undersampling)
    for row, volume in zip(table.to_dict("records"), volumes, strict=True):
        zero_filled = np.abs(np.fft.ifft2(np.fft.fft2(volume.image, norm="ortho") * mask, norm="ortho"))
        for label, scale in (("by the zero-filled maximum", zero_filled.max()), ("by the true maximum", 1.0)):
            image = by_hand(folder, volume, scale)
            assert row[label] == pytest.approx(decibels(volume.image, image), abs=1e-3), label
