"""What a command costs in a fresh clone: minutes, peak memory of all its processes, disk. The README says it from here."""

import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT, atomic_write
from kdmri_study.provenance import processor_name

COSTS = PROJECT / "results" / "command_costs.csv"
SECONDS_BETWEEN = 1.0


def _disk(folder: Path) -> int:
    """Bytes that a folder's files take, each once."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                found[path.stat().st_ino] = path.stat().st_blocks * 512
    return sum(found.values())


def _memory(process: psutil.Process) -> int:
    """Bytes of memory of a process and all that it started; what they share counts once."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error, FileNotFoundError):
            total += each.memory_full_info().pss
    return total


def cost_of(command: list[str], folder: Path) -> dict[str, float]:
    """Run a command in a folder: minutes, and GB of memory at its peak and of disk that the folder then takes.

    Raises
    ------
    StudyError
        When the command fails.
    """
    started, peak, ended = time.monotonic(), 0, threading.Event()
    with psutil.Popen(command, cwd=folder) as process:

        def watch() -> None:
            nonlocal peak
            while not ended.wait(SECONDS_BETWEEN):
                with suppress(psutil.Error):
                    peak = max(peak, _memory(process))

        watcher = threading.Thread(target=watch)
        watcher.start()
        status = process.wait()
        ended.set()
        watcher.join()
    if status:
        raise StudyError(f"{' '.join(command)}: ended with status {status}")
    minutes = (time.monotonic() - started) / 60
    return {
        "minutes": round(minutes, 1),
        "memory / GB": round(peak / 1e9, 1),
        "disk / GB": round(_disk(folder) / 1e9, 1),
    }


def measure(command: str, path: Path = COSTS) -> str:
    """Measure a command, such as "./run_all.sh --profile smoke", in a fresh clone, and write it down in `path`.

    The environment counts: it's made there, as a new user's.
    """
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "kdmri"
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
        found = {"command": command, **cost_of(command.split(), clone), "processor": processor_name()}
    table = pd.DataFrame([found])
    if path.exists():
        table = pd.concat([table, pd.read_csv(path)]).drop_duplicates("command")
    with atomic_write(path) as temporary:
        table.sort_values("command").to_csv(temporary, index=False)
    return pd.Series(found).to_string()
