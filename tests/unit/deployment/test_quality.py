"""What faster ways to compute a network lose, and what the scale costs that a scanner knows."""

import numpy as np
import pytest

from kdmri_lib.deployment.export import INNER
from kdmri_lib.devices import cpu_has_bfloat16
from kdmri_lib.evaluation import psnr
from kdmri_study.models import kept_run, quality_of_ways, scales

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


def test_every_way_is_beside_the_studys_own_numbers_and_loses_the_difference_to_float32(deployed):
    folder, path, volumes = deployed
    quality = quality_of_ways(folder.study, kept_run(folder), path, volumes)
    assert list(quality["computed by"]) == WAYS
    assert quality.psnr[0] == pytest.approx(folder.outcome.volumes.psnr.mean(), abs=1e-4)
    assert quality.ssim[0] == pytest.approx(folder.outcome.volumes.ssim.mean(), abs=1e-5)
    np.testing.assert_allclose(quality["psnr lost"], quality.psnr[0] - quality.psnr)
    for way, lost in zip(quality["computed by"], quality["psnr lost"], strict=True):
        most = 3 if "int8" in way else 0.5 if "bfloat16" in way or "own precision" in way else 1e-3
        assert abs(lost) < most and (lost != 0 or "int8" not in way), way


def test_either_scale(deployed, model):
    """`test_model` holds `Model` to the study's network at the scale that a scanner knows."""
    folder, path, volumes = deployed
    table = scales(kept_run(folder), path, volumes)
    known = [psnr(v.image, model.reconstruct(np.fft.fft2(v.image, norm="ortho")), 1.0) for v in volumes]
    np.testing.assert_allclose(table["by the zero-filled maximum"], known, atol=1e-3)
    np.testing.assert_allclose(table["by the true maximum"], folder.outcome.volumes.psnr, atol=1e-3)
