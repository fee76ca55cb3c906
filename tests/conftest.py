"""Fixtures made by code: the smoke study, prepared, trained in part, or made whole by ./run_all.sh; and `--long`."""

import importlib
import os
import shutil
import sys

import matplotlib
import pytest
import torch
from filelock import FileLock

from kdmri_study.evidence import job, train_job
from kdmri_study.profile import Study
from kdmri_study.runs import prepare_dataset
from tests.studies import JOB, clone_of_project, logs, run_all, sharing_data, small_profile

matplotlib.use("Agg")
torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also what takes minutes, and everything repeated more often")


def pytest_collection_modifyitems(config, items):
    # One worker begins with the whole study, which takes longest; what a browser sees of it comes last, so that no other
    # worker waits for the study as well.
    items.sort(key=lambda item: ("whole_study" in item.fixturenames) * (1 if "browser" in item.nodeid else -1))
    if not config.getoption("--long"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes; run by ./run_tests.sh --long"))


@pytest.fixture
def kdmri(monkeypatch, capfd):
    """Runs a command in this process: its status, and what it wrote."""

    def run(*arguments, package: str = "kdmri_study") -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [package, *map(str, arguments)])
        try:
            status = importlib.import_module(f"{package}.__main__").main()
        except SystemExit as end:
            status = end.code
        return status, "".join(capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def prepared_study(tmp_path_factory) -> Study:
    """The smoke study with its cardiac phantoms prepared; nothing trained."""
    study = Study("smoke", tmp_path_factory.mktemp("study"))
    prepare_dataset(study, study.dataset("cardiac"))
    return study


@pytest.fixture(scope="session")
def complex_study(tmp_path_factory) -> Study:
    """The same of complex images, with its setting alone."""
    folder = tmp_path_factory.mktemp("complex")
    study = Study(small_profile(folder / "complex.yaml", domain="complex"), folder)
    prepare_dataset(study, study.dataset("cardiac"))
    return study


@pytest.fixture
def study(prepared_study, tmp_path) -> Study:
    """A smoke study in a fresh folder, on the session's prepared data."""
    return sharing_data("smoke", tmp_path, prepared_study)


@pytest.fixture(scope="session")
def finished_study(prepared_study, tmp_path_factory) -> Study:
    """A small study of two seeds, of whose first the setting is trained and in evidence; only to be looked at."""
    folder = tmp_path_factory.mktemp("finished")
    study = sharing_data(small_profile(folder / "small.yaml", seeds=[0, 1]), folder, prepared_study)
    train_job(study, job(study, JOB))
    return study


@pytest.fixture
def finished_copy(finished_study, tmp_path) -> Study:
    """A copy of it, to be changed."""
    study = sharing_data(finished_study.source, tmp_path, finished_study)
    shutil.copytree(finished_study.results, study.results)
    return study


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory) -> Study:
    """Profile smoke as ./run_all.sh makes it in a clone, once for all workers; only to be looked at.

    What it printed is in `said.txt` beside the clone, whose path holds what a shell would run, were it not
    quoted, and what YAML would cut.
    """
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    folder, said = shared / "it's a; touch sprung; $(touch sprung) clone #2", shared / "said.txt"
    with FileLock(shared / "whole.lock"):
        if not said.exists():
            process = run_all(clone_of_project(folder), "--profile", "smoke", "--jobs", "2")
            printed, _ = process.communicate()
            said.write_text(f"{printed}\nexit status {process.returncode}\n")
    assert said.read_text().endswith("exit status 0\n"), said.read_text() + logs(folder)
    return Study("smoke", folder)
