"""./run_all.sh on a real SLURM of one node: the whole study, time limits, a node that goes down, a wish to stop."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.faults.one_node_slurm import Slurm, missing, one_node_slurm
from tests.studies import CELL, PROJECT, Study, small_profile


def on_slurm(test):
    """Of minutes, and nowhere but where a cluster can be started; none waits for ever."""
    for mark in (
        pytest.mark.slow,
        pytest.mark.timeout(1200),
        pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
    ):
        test = mark(test)
    return test


# Longer than what shares a job; whatever a test doesn't say stays as it is by default.
LONG = {"train": {"memory_gb": 7, "minutes": 33, "gpus": 1}}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with one_node_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def start(slurm, tmp_path):
    """Starts ./run_all.sh of a checkout whose environment is the one that runs the tests, and the cluster's commands."""
    checkout, started = tmp_path / "checkout", []
    ignored = shutil.ignore_patterns(".git", ".venv", "results", ".snakemake", "prepared", "__pycache__")
    shutil.copytree(PROJECT, checkout, ignore=ignored)
    path = f"{slurm.commands}:{Path(sys.executable).parent}"
    (checkout / "environment.sh").write_text(f'export PATH="{path}:$PATH" PYTHONPATH="{checkout}"\n')

    def run_all(profile: Path, folder: Path, *targets: str) -> subprocess.Popen:
        asked = ("--profile", profile, "--folder", folder, "--workflow-profile", "cluster/slurm", *targets)
        with (tmp_path / "said").open("a") as said:
            # As from a terminal; a shell can't trap what was ignored when it started, as test workers do.
            normal = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
            command = [checkout / "run_all.sh", *asked]
            started.append(subprocess.Popen(command, stdout=said, stderr=said, preexec_fn=normal))
        return started[-1]

    yield run_all
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def said(tmp_path: Path) -> str:
    logs = (tmp_path / "checkout" / ".snakemake" / "slurm_logs").rglob("*.log")
    return "\n".join(p.read_text() for p in (tmp_path / "said", *logs))


def finished(process: subprocess.Popen, tmp_path: Path, seconds: float) -> None:
    assert process.wait(seconds) == 0, said(tmp_path)


@pytest.fixture
def since(slurm):
    """The jobs of this test alone."""
    before = len(slurm.jobs())
    return lambda: slurm.jobs()[before:]


@pytest.fixture
def long_training(tmp_path):
    """A profile, a study of it, and the folder of a training that isn't over before a test has seen it begin."""
    profile = small_profile(tmp_path / "long.yaml", 9000, resources=LONG)
    study = Study(str(profile), tmp_path / "cluster")
    return profile, study, study.results / "runs" / study.methods(CELL, 0)["teacher"].id


def weights_in_one_go(profile: Path, folder: Path, run: str) -> bytes:
    """What the same training comes to on this machine, by itself and never stopped."""
    for command, what in (("prepare", CELL.dataset), ("train", run)):
        asked = [sys.executable, "-m", "kdmri_lib", command, "--profile", str(profile), "--folder", str(folder), what]
        subprocess.run(asked, check=True, cwd=PROJECT, capture_output=True, timeout=400)
    (made,) = (folder / "results" / "long" / "runs" / run).glob("*.safetensors")
    return made.read_bytes()


def running_training(slurm: Slurm, process: subprocess.Popen, study: Study, since) -> tuple[str, Path]:
    """The number of a job that trains, and the folder of its checkpoint."""

    def begun() -> list[Path]:
        assert process.poll() is None, "it ended before it trained"
        return list(study.results.glob("runs/*/checkpoint.pt"))

    folder = slurm.until(begun, 300, "a checkpoint")[0].parent
    return next(j["number"] for j in since() if j["comment"] == f"rule_train_wildcards_{folder.name}"), folder


@on_slurm
def test_a_whole_study_and_its_short_jobs_share_jobs(slurm, start, since, tmp_path):
    profile = small_profile(tmp_path / "small.yaml")
    study = Study(str(profile), tmp_path / "cluster")
    finished(start(profile, study.folder), tmp_path, 540)
    assert (study.results / "report" / "index.html").exists()
    assert {job["state"] for job in since()} == {"COMPLETED"}
    kinds = [job["comment"] for job in since()]
    assert len(study.runs) > 5 and len(kinds) <= 4, kinds


@on_slurm
def test_a_training_that_meets_its_time_limit_goes_on_in_the_next_job(slurm, start, since, long_training, tmp_path):
    profile, study, folder = long_training
    process = start(profile, study.folder, str(folder / "run.json"))
    job, _ = running_training(slurm, process, study, since)
    # A limit is in whole minutes, but its end may be set; SLURM looks at it twice a minute, hence so many steps.
    slurm.ask("scontrol", "update", f"jobid={job}", "EndTime=now+1")
    finished(process, tmp_path, 540)
    prepared, first, second = since()
    assert [j["state"] for j in (prepared, first, second)] == ["COMPLETED", "TIMEOUT", "COMPLETED"]
    assert (second["limit"], second["memory"], prepared["memory"]) == ("33:00", "7000M", "4000M")
    given = [slurm.ask("scontrol", "show", "job", j["number"]) for j in (prepared, second)]
    assert ["TresPerJob=gres:gpu:1" in about for about in given] == [False, True]
    assert "of 9000; start again to go on from there" in said(tmp_path)
    (made,) = folder.glob("*.safetensors")
    assert made.read_bytes() == weights_in_one_go(profile, tmp_path / "whole", folder.name), "the same bits"


@on_slurm
def test_a_node_that_goes_down_and_comes_back_costs_no_more_than_time(slurm, start, since, long_training, tmp_path):
    profile, study, folder = long_training
    process = start(profile, study.folder, str(folder / "run.json"))
    job, _ = running_training(slurm, process, study, since)
    slurm.ask("scontrol", "update", f"nodename={slurm.node}", "state=down", "reason=test")
    slurm.until(lambda: "RUNNING" not in {j["state"] for j in since()}, 60, "no job runs on a node that is down")
    assert process.poll() is None and not (folder / "run.json").exists()
    slurm.ask("scontrol", "update", f"nodename={slurm.node}", "state=resume")
    finished(process, tmp_path, 540)
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", job), "SLURM started it again by itself"
    assert {j["state"] for j in since()} == {"COMPLETED"} and len(since()) == 2


@on_slurm
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_cancels_its_jobs_and_ends(slurm, start, since, long_training, tmp_path, number):
    profile, study, _ = long_training
    other = slurm.ask("sbatch", "--parsable", "--hold", "--wrap=true").strip()
    process = start(profile, study.folder)
    _, folder = running_training(slurm, process, study, since)
    process.send_signal(number)
    asked = time.monotonic()
    assert process.wait(60) != 0
    assert time.monotonic() - asked < 15
    states = {j["number"]: j["state"] for j in since()}
    assert states.pop(other) == "PENDING", "jobs of others are left alone"
    slurm.ask("scancel", other)
    assert set(states.values()) <= {"COMPLETED", "CANCELLED"} and "CANCELLED" in states.values()
    assert "; start again to go on from there" in said(tmp_path)
    assert (tmp_path / "said").read_text().splitlines()[-1] == "kdmri: not finished; the same command goes on from here"
    assert (folder / "checkpoint.pt").exists() and not (folder / "run.json").exists()


def options(tmp_path: Path, accounting: bool, age: int) -> subprocess.CompletedProcess:
    """What run_all.sh passes on where a cluster has accounting or not, and keeps jobs that ended for so many seconds."""
    answers = {"sacct": "exit 0" if accounting else "exit 1", "scontrol": f"echo 'MinJobAge               = {age} sec'"}
    for name, answer in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    script = '. cluster/slurm/functions.sh; slurm_options && echo "${slurm[@]}"'
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-c", script], cwd=PROJECT, env=environment, capture_output=True, text=True)


def test_what_to_ask_for_the_state_of_a_job_follows_from_what_the_cluster_answers(tmp_path):
    assert "--slurm-status-command" not in options(tmp_path, True, 300).stdout
    assert "--slurm-status-command squeue" in options(tmp_path, False, 300).stdout
    refused = options(tmp_path, False, 30)
    assert refused.returncode == 1 and "squeue forgets jobs 30 s after their end" in refused.stderr


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("--workflow-profile cluster/slurm", True),
        ("--workflow-profile=cluster/slurm --dry-run", True),
        ("--executor slurm", True),
        ("", False),
        ("--executor local some/target", False),
    ],
)
def test_whether_slurm_starts_the_jobs(asked, expected):
    script = f". cluster/slurm/functions.sh; uses_slurm {asked}"
    assert (subprocess.run(["bash", "-c", script], cwd=PROJECT).returncode == 0) is expected
