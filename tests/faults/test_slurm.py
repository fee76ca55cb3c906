"""./run_all.sh on a real SLURM of one node: the whole study, time limits, a node that goes down, a wish to stop."""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kdmri_lib.storage import PROJECT
from kdmri_study.evidence import FILES, job
from kdmri_study.profile import Study
from tests.faults.one_node_slurm import Slurm, missing, one_node_slurm
from tests.faults.test_kills import made
from tests.studies import JOB, clone_of_project, command, logs, run_all, small_profile

needed = pytest.mark.skipif(bool(missing()), reason=missing() or "-")
# Longer than what shares a job; whatever a test doesn't say stays as it is by default.
LONG = {"train": {"memory_gb": 7, "minutes": 33, "gpus": 1}}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with one_node_slurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def start(slurm, tmp_path):
    """Starts ./run_all.sh of a clone whose environment has the cluster's commands; what it says is in `said`."""
    clone, started = clone_of_project(tmp_path / "clone"), []
    with (clone / "environment.sh").open("a") as environment:
        environment.write(f'export PATH={shlex.quote(str(slurm.commands))}:"$PATH"\n')

    def run(study: Study, *targets: str) -> subprocess.Popen:
        where = ("--profile", study.source, "--folder", study.folder, "--workflow-profile", "cluster/slurm")
        with (tmp_path / "said").open("a") as said:
            started.append(run_all(clone, *where, *targets, stdout=said, stderr=said))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def said(tmp_path: Path) -> str:
    found = (tmp_path / "clone" / ".snakemake" / "slurm_logs").rglob("*.log")
    return "\n".join(p.read_text() for p in (tmp_path / "said", *found)) + logs(tmp_path / "cluster")


def finished(process: subprocess.Popen, tmp_path: Path, seconds: float) -> None:
    assert process.wait(seconds) == 0, said(tmp_path)


@pytest.fixture
def since(slurm):
    """The jobs of this test alone."""
    before = len(slurm.jobs())
    return lambda: slurm.jobs()[before:]


@pytest.fixture
def long(tmp_path) -> Study:
    """A study whose job isn't over before a test has seen it begin."""
    return Study(str(small_profile(tmp_path / "long.yaml", 2000, resources=LONG)), tmp_path / "cluster")


def running_job(slurm: Slurm, process: subprocess.Popen, study: Study, since) -> str:
    """The number of the job that trains."""

    def begun() -> bool:
        assert process.poll() is None, "it ended before it trained"
        return any(study.results.glob("runs/*/checkpoint.pt"))

    slurm.until(begun, 300, "a checkpoint")
    return next(j["number"] for j in since() if JOB in j["comment"])


@needed
@pytest.mark.slow
@pytest.mark.timeout(2000)
def test_a_study_of_which_a_job_meets_its_time_limit_is_as_one_that_was_never_stopped(
    slurm, start, since, long, tmp_path
):
    process = start(long)
    number = running_job(slurm, process, long, since)
    # A limit is in whole minutes, but its end may be set; SLURM looks at it twice a minute, hence so many steps.
    slurm.ask("scontrol", "update", f"jobid={number}", "EndTime=now+1")
    finished(process, tmp_path, 1100)
    assert (long.results / "report" / "index.html").exists()
    first, *again = [j for j in since() if JOB in j["comment"]]
    assert [j["state"] for j in (first, *again)] == ["TIMEOUT", "COMPLETED"]
    others = [j for j in since() if JOB not in j["comment"]]
    assert {j["state"] for j in others} == {"COMPLETED"}
    assert (again[0]["limit"], again[0]["memory"], others[0]["memory"]) == ("33:00", "7000M", "4000M")
    given = [slurm.ask("scontrol", "show", "job", j["number"]) for j in (others[0], again[0])]
    assert ["TresPerJob=gres:gpu:1" in about for about in given] == [False, True]
    whole = Study(long.source, tmp_path / "whole")
    for asked in (("train", JOB), ("tables",)):
        told = command(*asked, "--profile", whole.source, "--folder", whole.folder)
        subprocess.run(told, check=True, cwd=PROJECT, capture_output=True, timeout=800)
    assert made(long) == made(whole) and len(made(whole)) > len(FILES)


@needed
@pytest.mark.slow
@pytest.mark.timeout(2000)
def test_a_node_that_goes_down_and_comes_back_costs_no_more_than_time(slurm, start, since, long, tmp_path):
    process = start(long, JOB)
    number = running_job(slurm, process, long, since)
    slurm.ask("scontrol", "update", f"nodename={slurm.node}", "state=down", "reason=test")
    slurm.until(lambda: "RUNNING" not in {j["state"] for j in since()}, 60, "no job runs on a node that is down")
    assert process.poll() is None and not (job(long, JOB).folder(long) / FILES[0]).exists()
    slurm.ask("scontrol", "update", f"nodename={slurm.node}", "state=resume")
    finished(process, tmp_path, 800)
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", number), "SLURM started it again by itself"
    assert {j["state"] for j in since()} == {"COMPLETED"} and len(since()) == 2


@needed
@pytest.mark.slow
@pytest.mark.timeout(2000)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_cancels_its_jobs_and_ends(slurm, start, since, long, tmp_path, number):
    other = slurm.ask("sbatch", "--parsable", "--hold", "--wrap=true").strip()
    process = start(long)
    running_job(slurm, process, long, since)
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
