"""Trained networks of the smoke study, taken away."""

import numpy as np
import pytest

from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.deployment import Model
from kdmri_study.models import export, kept_run
from kdmri_study.runs import trained
from tests.studies import runs_of, sharing_data


def taken_away(study):
    """A study's student, the file it was exported to, and the test volumes."""
    folder, path = trained(study, runs_of(study)["student"]), study.folder / "student.onnx"
    assert export(study, kept_run(folder), path) < 1e-5
    return folder, path, list(read_prepared(study.prepared(folder.run.dataset), "test"))


@pytest.fixture(scope="session")
def deployed(prepared_study, tmp_path_factory):
    return taken_away(sharing_data("smoke", tmp_path_factory.mktemp("deployed"), prepared_study))


@pytest.fixture(scope="session")
def complex_deployed(complex_study):
    return taken_away(complex_study)


@pytest.fixture
def model(deployed):
    return Model(deployed[1], engine="onnxruntime", precision="float32", threads=1)


@pytest.fixture
def kspace(model, deployed):
    """What a scanner would measure of the first test volume on the model's mask: (slices, H, W) complex64, unshifted."""
    image = deployed[2][0].image.astype(np.complex128)
    return np.fft.fft2(image, norm="ortho").astype(np.complex64) * model.mask
