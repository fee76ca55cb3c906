"""SLURM's commands as Snakemake's executor calls them, on this machine alone: each job is a process here.

Called with the name of the command first; scripts named sbatch, srun, ... in front of PATH do so. STAND_IN_JOBS names a
folder with a file a job: what was asked for and what became of it. STAND_IN_LIMIT ("train" = a word in the job's comment)
has the first such job meet its time limit a second after the file STAND_IN_WHEN appears: it gets SIGTERM and, 30 s later,
SIGKILL, as with SLURM's KillWait.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

JOBS = Path(os.environ["STAND_IN_JOBS"])
WITH_VALUE = ("--job-name", "--output", "--comment", "--mem", "-t", "-p", "-A", "-D", "--wrap", "-n", "-c", "--name")
KILL_WAIT = 30


def parsed(arguments):
    """Options as a dictionary: "--a b", "--a=b" and "-ab" alike."""
    found, waiting = {}, list(arguments)
    while waiting:
        option = waiting.pop(0)
        if option in WITH_VALUE:
            found[option] = waiting.pop(0)
        else:
            name, _, value = option.partition("=")
            found[name] = value
    return found


def read(job):
    return json.loads((JOBS / f"{job}.json").read_text())


def change(job, **values):
    about = (read(job) if (JOBS / f"{job}.json").exists() else {}) | values
    partial = JOBS / f".{job}.{os.getpid()}"
    partial.write_text(json.dumps(about))
    partial.replace(JOBS / f"{job}.json")


def meets_limit(asked):
    word = os.environ.get("STAND_IN_LIMIT", "")
    before = [p for p in JOBS.glob("[0-9]*.json") if word in read(p.stem)["asked"]["--comment"]]
    return bool(word) and word in asked["--comment"] and not before


def sbatch(arguments):
    asked = parsed(arguments)
    with (JOBS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        job = str(1 + len(list(JOBS.glob("[0-9]*.json"))))
        change(job, asked=asked, state="PENDING", meets_limit=meets_limit(asked))
    subprocess.Popen([sys.executable, __file__, "run", job], start_new_session=True, stdout=subprocess.DEVNULL)
    print(job)


def run(arguments):
    """The node: runs one job until it ends or its time does."""
    (job,) = arguments
    about = read(job)
    asked = about["asked"]
    change(job, state="RUNNING")
    environment = os.environ | {"SLURM_JOB_ID": job, "SLURM_NTASKS": "1", "SLURM_JOB_NAME": asked["--job-name"]}
    with Path(asked["--output"].replace("%j", job)).open("w") as log:
        process = psutil.Popen(
            ["sh", "-c", asked["--wrap"]], stdout=log, stderr=log, cwd=asked.get("-D"), env=environment
        )
        while process.poll() is None and not (about["meets_limit"] and Path(os.environ["STAND_IN_WHEN"]).exists()):
            time.sleep(0.05)
        if process.poll() is None:
            time.sleep(1)
            change(job, seconds_to_end=end(process))
            state = "TIMEOUT"
        else:
            state = "FAILED" if process.returncode else "COMPLETED"
    if read(job)["state"] == "RUNNING":
        change(job, state=state)


def end(process):
    """SIGTERM to all of a job's processes, SIGKILL to those that are left; seconds that it took."""
    asked, all_of_it = time.monotonic(), [*process.children(recursive=True), process]
    for one in all_of_it:
        with_signal(one, signal.SIGTERM)
    _, left = psutil.wait_procs(all_of_it, KILL_WAIT)
    for one in left:
        with_signal(one, signal.SIGKILL)
    return time.monotonic() - asked


def with_signal(process, number):
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def srun(arguments):
    command = list(arguments)
    while command[0].startswith("-"):
        if command.pop(0) in WITH_VALUE:
            command.pop(0)
    os.execvp(command[0], command)


def sacct(arguments):
    for path in sorted(JOBS.glob("[0-9]*.json")):
        about = read(path.stem)
        if about["asked"]["--job-name"] == parsed(arguments).get("--name"):
            print(f"{path.stem}|{about['state']}")


def scancel(arguments):
    for job in (a for a in arguments if a.isdigit()):
        change(job, state="CANCELLED")


def sinfo(arguments):
    print("here*")


if __name__ == "__main__":
    commands = {f.__name__: f for f in (sbatch, run, srun, sacct, scancel, sinfo)}
    commands[sys.argv[1]](sys.argv[2:])
