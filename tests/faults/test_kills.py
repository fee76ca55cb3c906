"""Processes killed at random moments, asked to stop, or dead with a lock: nothing is lost, and the same bits come out."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from kdmri_lib.storage import PROJECT, atomic_write, write_text
from kdmri_study.runs import RunFolder, prepare_dataset, trained
from kdmri_study.study import Study
from tests.faults.commands import command, digests, of_run
from tests.studies import CELL, sharing_data, small_profile, until_it_trains


def kill(process: subprocess.Popen, whole_tree: bool) -> None:
    """SIGKILL, to it alone or to all of its processes."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True) if whole_tree else []:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()


def kill_often(
    arguments: list[str], wanted: int, check: Callable[[], None], clear: Callable[[], None], whole_tree: bool = False
) -> int:
    """Start the command and kill it at random moments until `wanted` kills hit it; then let it end and `check`.

    Where it ends by itself before that, it's checked, and begins again from nothing. Returns the number of starts.
    """
    moments, kills, starts, usual = random.Random(0), 0, 0, 6.0
    while True:
        begun = time.monotonic()
        starts += 1
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=PROJECT)
        if kills == wanted:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
            check()
            return starts
        with suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0.2, 1.1) * usual)
            assert process.returncode == 0, process.stderr.read()
            usual = 0.3 * usual + 0.7 * (time.monotonic() - begun)
            check()
            clear()
            continue
        kill(process, whole_tree)
        kills += 1


def often(request, few: int, many: int) -> int:
    """How often: few in the default tests, many in the long ones."""
    return many if request.config.getoption("--long") else few


def test_a_training_killed_at_random_moments_ends_with_the_same_bits(study, tmp_path, request):
    profile = small_profile(tmp_path / "longer.yaml", 400)
    whole, killed = (sharing_data(profile, tmp_path / name, study) for name in ("whole", "killed"))
    run = whole.methods(CELL, 0)["student"]
    expected = of_run(trained(whole, run).path)
    assert len(expected) == 4
    folder = RunFolder(killed, run).path

    def check():
        assert of_run(folder) == expected
        assert {p.name for p in folder.iterdir()} == {*expected, "run.json", "declaration.json", ".lock"}

    kill_often(
        command("train", "--profile", profile, "--folder", killed.folder, run.id),
        often(request, 2, 25),
        check,
        lambda: shutil.rmtree(folder),
    )


def test_a_preparation_killed_at_random_moments_ends_with_the_same_bits(tmp_path, request):
    profile = small_profile(tmp_path / "larger.yaml", 6, {"shape": [150, 150], "train": 30, "slices_per_volume": 12})
    whole, killed = (Study(str(profile), tmp_path / name) for name in ("whole", "killed"))
    prepare_dataset(whole, "cardiac")
    folder = killed.prepared("cardiac").parent
    expected = digests(whole.prepared("cardiac").parent, "*")
    assert {Path(name).suffix for name in expected} >= {".h5", ".csv", ".png"}

    def check():
        assert digests(folder, "*") == expected

    kill_often(
        command("prepare", "--profile", profile, "--folder", killed.folder, "cardiac"),
        often(request, 1, 15),
        check,
        lambda: shutil.rmtree(folder),
    )


def test_a_notebook_killed_at_random_moments_ends_with_the_same_tables_and_figures(study, tmp_path, request):
    profile = small_profile(tmp_path / "small.yaml", 60)
    whole, killed = (sharing_data(profile, tmp_path / name, study) for name in ("whole", "killed"))

    def arguments(one: Study) -> list[str]:
        about = {"profile": profile, "folder": one.folder, "cell": CELL.tag}
        pairs = [x for pair in about.items() for x in ("--parameter", "{}={}".format(*pair))]
        return command("notebook", "notebooks/03_distillation.ipynb", one.results / "notebooks" / "03.ipynb", *pairs)

    def made(one: Study) -> dict[str, str]:
        return digests(one.results, "tables/*.csv", "figures/*.png", "runs/*/*.csv", "runs/*/*.safetensors")

    subprocess.run(arguments(whole), check=True, capture_output=True, cwd=PROJECT)
    expected = made(whole)
    assert len(expected) > 6

    def check():
        assert made(killed) == expected
        assert not list(killed.results.glob("tables/.*")) and (killed.results / "notebooks" / "03.ipynb").exists()

    kill_often(arguments(killed), often(request, 2, 12), check, lambda: shutil.rmtree(killed.results))


@pytest.mark.slow
def test_the_workflow_killed_at_random_moments_ends_with_the_same_tables_whatever_the_jobs(study, tmp_path):
    profile = small_profile(tmp_path / "small.yaml", 200)
    whole, killed = (sharing_data(profile, tmp_path / name, study) for name in ("whole", "killed"))

    def arguments(one: Study, cores: int) -> list[str]:
        target = one.results / "notebooks" / "03_distillation_cardiac_8x.ipynb"
        workflow = (
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(PROJECT / "Snakefile"),
            "--nolock",
            str(target),
        )
        more = ("--rerun-incomplete", "--cores", str(cores), "--config", f"profile={profile}", f"folder={one.folder}")
        return [*workflow, *more]

    def made(one: Study) -> dict[str, str]:
        return digests(one.results, "tables/*.csv", "figures/*.png", "runs/*/*.csv", "runs/*/*.safetensors")

    subprocess.run(arguments(whole, 1), check=True, capture_output=True, cwd=PROJECT)

    def check():
        assert made(killed) == made(whole)

    kill_often(arguments(killed, 2), 6, check, lambda: shutil.rmtree(killed.results), whole_tree=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(study, tmp_path, number):
    profile = small_profile(tmp_path / "longer.yaml", 400)
    here = sharing_data(profile, tmp_path / "stopped", study)
    run = here.methods(CELL, 0)["student"]
    folder = RunFolder(here, run).path
    arguments = command("train", "--profile", profile, "--folder", here.folder, run.id)
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    until_it_trains(process, folder)
    process.send_signal(number)
    asked = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - asked < 10
    assert process.returncode == 130
    assert "of 400; start again to go on from there" in errors
    assert (folder / "checkpoint.pt").exists() and not (folder / "run.json").exists()


def test_a_lock_of_a_dead_process_holds_nobody(study):
    run = study.methods(CELL, 0)["student"]
    folder = RunFolder(study, run).path
    folder.mkdir(parents=True)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\nfrom filelock import FileLock\nwith FileLock(sys.argv[1]):\n    print('held', flush=True)\n"
            "    time.sleep(600)",
            str(folder / ".lock"),
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.wait()
    assert (folder / ".lock").exists()
    assert trained(study, run).state() == "finished"


def test_what_a_killed_writer_left_is_cleared_and_a_living_writers_is_not(tmp_path):
    path = tmp_path / "x.txt"
    dead = subprocess.Popen(["true"])
    dead.wait()
    with atomic_write(path) as temporary:
        temporary.write_text("a")
    left, living = (
        temporary.with_name(temporary.name.replace(f"-{os.getpid()}.", f"-{pid}.")) for pid in (dead.pid, os.getppid())
    )
    assert len({left, living, temporary}) == 3
    for one in (left, living):
        one.write_text("half")
    write_text(path, "b")
    assert not left.exists() and living.exists() and path.read_text() == "b"
