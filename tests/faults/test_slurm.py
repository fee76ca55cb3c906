"""./run_all.sh on a real SLURM of one node: the whole study, a time limit, a node that goes down, a wish to stop."""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from kdmri_lib.storage import PROJECT
from kdmri_study.evidence import FILES, job
from kdmri_study.profile import Study
from tests.studies import JOB, clone_of_project, command, logs, made, run_all, small_profile

# A cluster of this machine: Debian's slurm-wlm and munge, in a folder and on ports of its own.
DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct", "sacctmgr", "sshare")
# CPUs and memory are what tests need, whatever the machine has; the two GPUs are two device files that are always there.
# Jobs that ended are kept for as long as tests may look at them (SLURM's default is 300 s). There is no accounting.
CONFIGURATION = """\
ClusterName=one
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
MpiDefault=none
MinJobAge=3600
ReturnToService=2
GresTypes=gpu
NodeName={node} NodeAddr=127.0.0.1 CPUs=2 RealMemory=64000 Gres=gpu:2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
DEVICES = "AutoDetect=off\nName=gpu File=/dev/null\nName=gpu File=/dev/zero\n"


def which(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin")))


class Slurm:
    """What tests ask of the cluster; `commands` is a folder for the front of PATH."""

    def __init__(self, folder: Path):
        self.folder, self.commands, self.node = folder, folder / "bin", socket.gethostname().split(".")[0]

    def ask(self, command: str, *arguments: str) -> str:
        asked = [self.commands / command, *arguments]
        return subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60).stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job so far, first to last: number, state, what Snakemake calls it, and what it asked for."""
        names = ("number", "state", "comment", "limit", "memory")
        lines = self.ask("squeue", "--noheader", "--states=all", "--format=%i|%T|%k|%l|%m").splitlines()
        found = [dict(zip(names, line.split("|"), strict=True)) for line in lines]
        return sorted(found, key=lambda job: int(job["number"]))

    def until(self, what, seconds: float, message: str) -> None:
        """Wait until `what()` is true; an error after so many seconds."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                logs = "\n".join(f"{p.name}: {p.read_text()[-1000:]}" for p in sorted(self.folder.glob("*.log")))
                raise TimeoutError(f"not within {seconds} s: {message}\n{logs}")
            time.sleep(0.2)

    def idle(self) -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):  # slurmctld doesn't answer yet
            return self.ask("sinfo", "--noheader", "--format=%T").strip() == "idle"
        return False

    def daemon(self, name: str, *arguments: str) -> subprocess.Popen:
        environment = os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        with (self.folder / f"{name}.log").open("w") as log:
            how = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL, "env": environment}
            return subprocess.Popen([which(name), *arguments], **how)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The running cluster; at the end, its jobs are cancelled and its daemons ended."""
    if not all(map(which, (*DAEMONS, *COMMANDS))) or os.geteuid():
        pytest.skip("needs root, and Debian's packages slurm-wlm and munge")
    folder = tmp_path_factory.mktemp("slurm")
    slurm = Slurm(folder)
    configuration = folder / "slurm.conf"
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    configuration.write_text(CONFIGURATION.format(node=slurm.node, folder=folder, ports=free_ports(2)))
    (folder / "gres.conf").write_text(DEVICES)
    (folder / "munge.key").write_bytes(os.urandom(256))
    (folder / "munge.key").chmod(0o600)
    for name in COMMANDS:
        # Not by the environment alone: within a job Snakemake starts srun without most of SLURM's variables.
        (slurm.commands / name).write_text(f'#!/bin/sh\nSLURM_CONF="{configuration}" exec {which(name)} "$@"\n')
        (slurm.commands / name).chmod(0o755)
    own = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    started = []
    try:
        started.append(slurm.daemon("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *own))
        slurm.until((folder / "munge.socket").exists, 30, "munged's socket")
        started += [slurm.daemon(name, "-D", "-f", str(configuration)) for name in ("slurmctld", "slurmd")]
        slurm.until(slurm.idle, 60, "an idle node")
        yield slurm
    finally:
        with contextlib.suppress(subprocess.SubprocessError, TimeoutError):
            slurm.ask("scancel", "--user=root")
            slurm.until(lambda: not slurm.ask("squeue", "--noheader"), 60, "no jobs left")
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


# Longer than what shares a job; whatever a test doesn't say stays as it is by default.
LONG = {"train": {"memory_gb": 7, "minutes": 33, "gpus": 1}}


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


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_study_whose_node_went_down_and_whose_job_met_its_time_limit_is_as_one_that_was_never_stopped(
    slurm, start, since, long, tmp_path
):
    process = start(long)
    number = running_job(slurm, process, long, since)

    def runs() -> bool:
        return "RUNNING" in {j["state"] for j in since() if JOB in j["comment"]}

    slurm.ask("scontrol", "update", f"nodename={slurm.node}", "state=down", "reason=test")
    slurm.until(lambda: not runs(), 60, "no job runs on a node that is down")
    assert process.poll() is None and not (job(long, JOB).folder(long) / FILES[0]).exists()
    slurm.ask("scontrol", "update", f"nodename={slurm.node}", "state=resume")
    slurm.until(runs, 300, "SLURM starts it again by itself")
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", number)
    # A limit is in whole minutes, but its end may be set; SLURM looks at it twice a minute, hence so many steps.
    slurm.ask("scontrol", "update", f"jobid={number}", "EndTime=now+1")
    assert process.wait(1100) == 0, said(tmp_path)
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


@pytest.mark.parametrize(
    ("accounting", "age", "expected"),
    [
        (0, 300, "--slurm-jobname-prefix"),
        (1, 300, "--slurm-status-command squeue"),
        (1, 30, "squeue forgets jobs 30 s after"),
    ],
)
def test_what_to_ask_for_the_state_of_a_job_follows_from_what_the_cluster_answers(tmp_path, accounting, age, expected):
    """Where it has accounting (status 0) or none, and keeps jobs that ended for so many seconds."""
    for name, answer in {
        "sacct": f"exit {accounting}",
        "scontrol": f"echo 'MinJobAge               = {age} sec'",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    script = f'PATH={tmp_path}:$PATH; . cluster/slurm/functions.sh; slurm_options && echo "${{slurm[@]}}"'
    told = subprocess.run(["bash", "-c", script], cwd=PROJECT, capture_output=True, text=True)
    assert expected in told.stdout + told.stderr and (told.returncode == 1) is (age == 30)
    assert ("--slurm-status-command" in told.stdout) is (accounting == 1 and age == 300)


def test_whether_slurm_starts_the_jobs():
    asked = ["--workflow-profile cluster/slurm", "--workflow-profile=cluster/slurm -n", "--executor slurm"]
    for options in (*asked, "", "--executor local some/target"):
        script = f". cluster/slurm/functions.sh; uses_slurm {options}"
        assert (subprocess.run(["bash", "-c", script], cwd=PROJECT).returncode == 0) is (options in asked)
