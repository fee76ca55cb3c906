"""./run_all.sh: two at a time, asked to stop, and files that change between two starts."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from kdmri_lib.datasets.prepared import content_checksum, read_prepared
from kdmri_lib.storage import PROJECT
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study
from tests import downloads
from tests.studies import CELL, small_profile, until_it_trains


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout whose environment is the one that runs the tests."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".*", "results", "prepared", "__pycache__")
    shutil.copytree(PROJECT, folder, ignore=ignored)
    shutil.copytree(PROJECT / "results" / "models", folder / "results" / "models")
    (folder / "environment.sh").write_text(f'export PATH="{Path(sys.executable).parent}:$PATH" PYTHONPATH="{folder}"\n')
    return folder


def run_all(checkout: Path, *arguments: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [checkout / "run_all.sh", "--profile", "smoke", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,
    )


def test_a_second_start_in_one_checkout_says_so_and_the_first_goes_on(checkout):
    target = checkout / "data" / "prepared" / Study("smoke").prepared("knee").name
    first = run_all(checkout, str(target))
    while first.poll() is None and not (checkout / "results" / ".lock").exists():
        time.sleep(0.01)
    second = run_all(checkout, str(target))
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 1 and "another ./run_all.sh is at work in" in said
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 0 and target.exists(), said
    third = run_all(checkout, str(target))
    said, _ = third.communicate(timeout=120)
    assert third.returncode == 0, "the lock of one that ended, however it did, holds nobody"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_all_asked_to_stop_has_its_trainings_save_and_ends(checkout, prepared_study, number):
    profile = small_profile(checkout / "profiles" / "longer.yaml", 20_000)
    study = Study(str(profile), checkout)
    study.prepared("cardiac").parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(prepared_study.prepared("cardiac"), study.prepared("cardiac"))
    folder = RunFolder(study, study.methods(CELL, 0)["student"]).path
    process = subprocess.Popen(
        [checkout / "run_all.sh", "--profile", profile, "--jobs", "1", str(folder / "run.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As from a terminal; a shell can't trap what was ignored when it started, as test workers do.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until_it_trains(process, folder)
    everyone = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and "of 20000; start again to go on from there" in said
    assert said.strip().splitlines()[-1] == "kdmri: not finished; the same command goes on from here"
    assert not [p for p in everyone if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not (folder / "run.json").exists()


def test_files_that_change_between_two_starts_are_prepared_again(checkout, tmp_path):
    """In a folder elsewhere, on a download; a start without any change makes nothing."""
    downloads.nifti(tmp_path / "scans")
    profile = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())
    declared = {"source": "nifti_folder", "folder": str(tmp_path / "scans"), "shape": list(downloads.SHAPE)}
    mine = declared | {"train": 2, "validation": 1, "test": 1}
    profile |= {"cells": {"mine": [2]}, "experiments": {}, "datasets": {"mine": mine}}
    (tmp_path / "scans.yaml").write_text(yaml.safe_dump(profile))
    study = Study(str(tmp_path / "scans.yaml"), tmp_path / "elsewhere")
    path = study.prepared("mine")

    def start() -> tuple[str, str, int]:
        arguments = ("--profile", study.source, "--folder", study.folder, "--jobs", "1", path)
        done = subprocess.run([checkout / "run_all.sh", *arguments], capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, content_checksum(path), path.stat().st_mtime_ns

    first, second = start(), start()
    assert "will be again" not in first[0] + second[0] and first[1:] == second[1:]
    downloads.save_nifti(tmp_path / "scans/person2/scan.nii.gz", downloads.image(77))
    said, content, made = start()
    assert "prepared before, and will be again: " in said and content != first[1]
    (volume,) = (v for v in read_prepared(path, "train") if v.subject == "person2_scan")
    np.testing.assert_allclose(volume.image, downloads.normalised(downloads.image(77)), atol=2e-6)
    assert start()[1:] == (content, made), "once"
