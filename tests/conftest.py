"""Fixtures made by code: the smoke study in a folder of its own, with small prepared data."""

import matplotlib
import pytest
import torch

from kdmri_lib.datasets.preparing import prepare
from kdmri_lib.study.study import Study
from tests.studies import sharing_data

matplotlib.use("Agg")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def prepared_study(tmp_path_factory) -> Study:
    """The smoke study with its cardiac phantoms prepared; nothing trained."""
    study = Study("smoke", tmp_path_factory.mktemp("study"))
    prepare(study.dataset("cardiac"), study.prepared("cardiac"))
    return study


@pytest.fixture
def study(prepared_study, tmp_path) -> Study:
    """A smoke study in a fresh folder, on the session's prepared data."""
    return sharing_data("smoke", tmp_path, prepared_study)
