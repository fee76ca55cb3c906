"""A SLURM cluster of one node, this machine: Debian's slurm-wlm and munge, in a folder and on ports of its own."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

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


def missing() -> str:
    """Why there can't be one here; empty where there can."""
    lacking = [name for name in (*DAEMONS, *COMMANDS) if not which(name)]
    if lacking:
        return f"needs Debian's packages slurm-wlm and munge ({', '.join(lacking)} not found)"
    return "" if os.geteuid() == 0 else "needs root, whose jobs slurmd starts"


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


@contextlib.contextmanager
def one_node_slurm(folder: Path) -> Iterator[Slurm]:
    """The running cluster; when left, its jobs are cancelled and its daemons ended."""
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
        started.append(daemon(slurm, "munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *own))
        slurm.until((folder / "munge.socket").exists, 30, "munged's socket")
        started.append(daemon(slurm, "slurmctld", "-D", "-f", str(configuration)))
        started.append(daemon(slurm, "slurmd", "-D", "-f", str(configuration)))
        slurm.until(slurm.idle, 60, "an idle node")
        yield slurm
    finally:
        with contextlib.suppress(subprocess.SubprocessError, TimeoutError):
            slurm.ask("scancel", "--user=root")
            slurm.until(lambda: not slurm.ask("squeue", "--noheader"), 60, "no jobs left")
        for process in reversed(started):
            process.terminate()
        _, left = psutil.wait_procs([psutil.Process(p.pid) for p in started if p.poll() is None], 20)
        for process in [*left, *of_the_cluster(configuration)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in started:
            process.wait()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def daemon(slurm: Slurm, name: str, *arguments: str) -> subprocess.Popen:
    with (slurm.folder / f"{name}.log").open("w") as log:
        environment = os.environ | {"SLURM_CONF": str(slurm.folder / "slurm.conf")}
        return subprocess.Popen(
            [which(name), *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
        )


def of_the_cluster(configuration: Path) -> list[psutil.Process]:
    """Processes that its daemons or jobs left, by their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SLURM_CONF") == str(configuration):
                found.append(process)
    return found
