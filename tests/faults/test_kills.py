"""Processes killed at random moments, or asked to stop: nothing is lost, and the same evidence comes out."""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from kdmri_lib.storage import PROJECT
from kdmri_study.evidence import FILES, job, train_job
from kdmri_study.profile import Study
from tests.studies import JOB, clone_of_project, command, logs, made, run_all, runs_of, small_profile


def kill(process: subprocess.Popen) -> bool:
    """SIGKILL to all of its processes; False."""
    with suppress(psutil.NoSuchProcess):
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()
    return False


def until(process: subprocess.Popen, there: Callable[[], bool]) -> None:
    """Wait for something that a process makes; it must not end before."""
    while not there():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture
def studies(tmp_path) -> list[Study]:
    """Two studies of one profile in two folders: one that is left alone, and one that is killed."""
    profile = small_profile(tmp_path / "small.yaml", 40, {"slices_per_volume": 12})
    return [Study(str(profile), tmp_path / name) for name in ("whole", "killed")]


def test_a_job_killed_while_it_prepares_and_while_it_trains_ends_with_the_same_evidence(studies):
    whole, killed = studies
    train_job(whole, job(whole, JOB))
    arguments = command("train", "--profile", killed.source, "--folder", killed.folder, JOB)
    for begun in ("data/prepared/.*.parts/*", "results/small/runs/*/checkpoint.pt"):
        process = subprocess.Popen(arguments, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(process, lambda begun=begun: any(killed.folder.glob(begun)))
        kill(process)
    assert not job(killed, JOB).folder(killed).exists()
    train_job(killed, job(killed, JOB))
    assert made(killed) == made(whole) and len(made(whole)) == 1 + len(runs_of(whole)) + len(FILES)
    left = {path.name for path in killed.results.glob("runs/*/*")}
    assert not {"checkpoint.pt", "begun.json", "sitting.json"} & left and not list(killed.folder.rglob("*.partial*"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("what", "kills"), [("job", 25), ("study", 12)])
def test_killed_at_random_moments_it_ends_with_the_same_evidence_and_tables(studies, tmp_path, what, kills):
    """A job by itself, and a whole study, notebooks included, with another number of cores; begun again where it ended."""
    whole, killed = studies
    clone, moments = clone_of_project(tmp_path / "clone"), random.Random(0)

    def end(study: Study, jobs: int, seconds: float | None = None) -> bool:
        """Whether it came to its end, and wasn't killed after so many seconds."""
        where = ("--profile", study.source, "--folder", study.folder)
        asked = command("train", *where, JOB) if what == "job" else [clone / "run_all.sh", *where, "--jobs", str(jobs)]
        process = subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=PROJECT)
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return kill(process)
        assert process.returncode == 0, printed
        return made(study) == expected and not list(study.folder.rglob("*.partial*"))

    begun, expected = time.monotonic(), {}
    end(whole, 1)
    usual, expected = time.monotonic() - begun, made(whole)
    assert len(expected) > 10
    for _ in range(kills):
        if end(killed, 2, moments.uniform(0.1, 0.7) * usual):
            shutil.rmtree(killed.folder)
    assert end(killed, 2)


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
        _, left = psutil.wait_procs(everyone, 20)  # a training that has saved may take seconds to go
        assert not [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert (folder / "checkpoint.pt").exists() and not (folder / "run.json").exists()
    finally:
        kill(first)
