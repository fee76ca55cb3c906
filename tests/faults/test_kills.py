"""Processes killed at random moments, or asked to stop: nothing is lost, and the same evidence comes out."""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest

from kdmri_lib.storage import PROJECT
from kdmri_study.evidence import FILES, job, train_job
from kdmri_study.profile import Study
from tests.studies import JOB, clone_of_project, command, digests, logs, run_all, runs_of, small_profile

MEASURED = ("seconds", "commit")


def made(study: Study) -> dict:
    """What must come out the same: prepared data, weights, evidence without what was measured, tables without times."""
    found = digests(study.folder, "data/prepared/*.h5", "results/*/runs/*/*.safetensors", "results/*/evidence/*/*.xz")
    for path in sorted(study.results.glob("evidence/*/runs.csv")):
        found[path.parent.name] = pd.read_csv(path).drop(columns=list(MEASURED)).to_csv()
    for path in sorted(study.results.glob("tables/*.csv")):
        found[path.name] = pd.read_csv(path).drop(columns=["seconds", "hours"], errors="ignore").to_csv()
    return found


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to all of its processes."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()


def until(process: subprocess.Popen, there: Callable[[], bool]) -> None:
    """Wait for something that a process makes; it must not end before."""
    while not there():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_a_job_killed_while_it_prepares_and_while_it_trains_ends_with_the_same_evidence(tmp_path):
    profile = small_profile(tmp_path / "small.yaml", 40, {"slices_per_volume": 12})
    whole, killed = (Study(str(profile), tmp_path / name) for name in ("whole", "killed"))
    train_job(whole, job(whole, JOB))
    arguments = command("train", "--profile", profile, "--folder", killed.folder, JOB)
    for begun in ("data/prepared/.*.parts/*", "results/small/runs/*/checkpoint.pt"):
        process = subprocess.Popen(arguments, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(process, lambda begun=begun: any(killed.folder.glob(begun)))
        kill(process)
    assert not job(killed, JOB).folder(killed).exists()
    subprocess.run(arguments, cwd=PROJECT, check=True, capture_output=True)
    assert made(killed) == made(whole) and len(made(whole)) == 1 + len(runs_of(whole)) + len(FILES)
    left = {path.name for path in killed.results.glob("runs/*/*")}
    assert not {"checkpoint.pt", "begun.json", "sitting.json"} & left and not list(killed.folder.rglob("*.partial*"))


def kill_often(arguments: list, wanted: int, check: Callable[[], None], clear: Callable[[], None]) -> None:
    """Start a command and kill it at random moments until `wanted` kills hit it; then let it end and `check`.

    Where it ends by itself before that, it's checked, and begins again from nothing.
    """
    moments, kills, usual = random.Random(0), 0, 20.0
    while True:
        begun = time.monotonic()
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=PROJECT)
        try:
            printed, _ = process.communicate(timeout=None if kills == wanted else moments.uniform(0.2, 1.1) * usual)
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
            continue
        assert process.returncode == 0, printed
        check()
        if kills == wanted:
            return
        usual = 0.3 * usual + 0.7 * (time.monotonic() - begun)
        clear()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", ["job", "study"])
def test_killed_at_random_moments_it_ends_with_the_same_evidence_and_tables(tmp_path, what):
    """A job by itself, and a whole study, notebooks included, with another number of cores."""
    profile = small_profile(tmp_path / "small.yaml", 200, {"slices_per_volume": 12})
    whole, killed = (Study(str(profile), tmp_path / name) for name in ("whole", "killed"))
    clone = clone_of_project(tmp_path / "clone")

    def arguments(study: Study, jobs: int) -> list:
        where = ("--profile", profile, "--folder", study.folder)
        return command("train", *where, JOB) if what == "job" else [clone / "run_all.sh", *where, "--jobs", str(jobs)]

    subprocess.run(arguments(whole, 1), check=True, capture_output=True, cwd=PROJECT)
    expected = made(whole)
    assert len(expected) > 10

    def check():
        assert made(killed) == expected and not list(killed.folder.rglob("*.partial*"))

    kill_often(arguments(killed, 2), 25 if what == "job" else 12, check, lambda: shutil.rmtree(killed.folder))


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_asked_to_stop_a_study_saves_and_ends_and_a_second_start_beside_it_says_so(tmp_path, number):
    clone = clone_of_project(tmp_path / "clone")
    study = Study(str(small_profile(clone / "profiles" / "longer.yaml", 20_000)), clone)
    folder: Path = study.results / "runs" / next(iter(job(study, JOB).runs))
    first = run_all(clone, "--profile", study.source, "--jobs", "1", JOB)
    try:
        until(first, (folder / "checkpoint.pt").exists)
        second = run_all(clone, "--profile", study.source, JOB)
        assert "another ./run_all.sh is at work in" in second.communicate(timeout=120)[0] and second.returncode == 1
        everyone = psutil.Process(first.pid).children(recursive=True)
        first.send_signal(number)
        said, _ = first.communicate(timeout=60)
        assert first.returncode != 0
        assert said.strip().splitlines()[-1] == "kdmri: not finished; the same command goes on from here"
        assert "of 20000; start again to go on from there" in logs(clone)
        assert not [p for p in everyone if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert (folder / "checkpoint.pt").exists() and not (folder / "run.json").exists()
    finally:
        kill(first)
