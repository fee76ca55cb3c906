"""Fixtures made by code: the smoke study in a folder of its own, with small prepared data; and `--long`."""

import matplotlib
import pytest
import torch

from kdmri_study.runs import prepare_dataset
from kdmri_study.study import Study
from tests.studies import sharing_data, small_profile

matplotlib.use("Agg")
torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also what takes minutes, and everything repeated more often")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes; run by ./run_tests.sh --long"))


@pytest.fixture(scope="session")
def prepared_study(tmp_path_factory) -> Study:
    """The smoke study with its cardiac phantoms prepared; nothing trained."""
    study = Study("smoke", tmp_path_factory.mktemp("study"))
    prepare_dataset(study, "cardiac")
    return study


@pytest.fixture(scope="session")
def complex_study(tmp_path_factory) -> Study:
    """The same of complex images, with its cell alone."""
    folder = tmp_path_factory.mktemp("complex")
    study = Study(small_profile(folder / "complex.yaml", domain="complex"), folder)
    prepare_dataset(study, "cardiac")
    return study


@pytest.fixture
def study(prepared_study, tmp_path) -> Study:
    """A smoke study in a fresh folder, on the session's prepared data."""
    return sharing_data("smoke", tmp_path, prepared_study)
