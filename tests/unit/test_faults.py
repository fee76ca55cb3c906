"""Training killed for real: the next start goes on, and the bits end as if nothing had happened."""

import hashlib
import random
import signal
import subprocess
import sys
import time

import pytest
import yaml

from kdmri_lib.runs import CURVE, SLICES, VOLUMES, WEIGHTS, trained
from kdmri_lib.study import PROJECT, Study


@pytest.fixture
def longer(study, tmp_path):
    """The smoke study with a training of some seconds, as a profile file of its own in the same folder."""
    profile = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())
    profile["schedule"].update(steps=400, validations=40)
    path = tmp_path / "longer.yaml"
    path.write_text(yaml.safe_dump(profile))
    return path


def start(path, study, run):
    arguments = ["train", "--profile", str(path), "--folder", str(study.folder), run.id]
    return subprocess.Popen([sys.executable, "-m", "kdmri_lib", *arguments], stderr=subprocess.PIPE, text=True)


def digests(folder):
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (WEIGHTS, CURVE, VOLUMES, SLICES)
    }


def test_killed_at_random_moments_ends_with_the_same_bits(longer, study, tmp_path):
    whole = Study(str(longer), tmp_path / "whole")
    prepared = whole.prepared("cardiac")
    prepared.parent.mkdir(parents=True)
    prepared.symlink_to(study.prepared("cardiac"))
    cell = next(c for c in whole.cells if c.dataset == "cardiac")
    run = whole.methods(cell, 0)["student"]
    expected = digests(trained(whole, run).path)

    folder = Study(str(longer), study.folder).results / "runs" / run.id
    moments, kills = random.Random(0), 0
    for _ in range(30):
        process = start(longer, study, run)
        # Once it trains, at some moment; its checkpoint shows that it does.
        while process.poll() is None and not (folder / "checkpoint.pt").exists():
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 1.5) if kills == 0 else moments.uniform(2.5, 5))
        if kills == 3 or process.poll() is not None:
            process.communicate(timeout=120)
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    assert kills >= 1
    assert not list(folder.glob("checkpoint.pt"))
    assert digests(folder) == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(longer, study, number):
    cell = next(c for c in study.cells if c.dataset == "cardiac")
    run = Study(str(longer), study.folder).methods(cell, 0)["student"]
    folder = Study(str(longer), study.folder).results / "runs" / run.id
    process = start(longer, study, run)
    while process.poll() is None and not (folder / "checkpoint.pt").exists():
        time.sleep(0.02)
    process.send_signal(number)
    asked = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - asked < 10
    assert process.returncode == 130
    assert "of 400; start again to go on from there" in errors
    assert (folder / "checkpoint.pt").exists() and not (folder / "run.json").exists()
