"""Faults caused for real: processes killed, files damaged, locks left behind; nothing is lost, nothing false is used."""

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

import h5py
import numpy as np
import pandas as pd
import psutil
import pytest

from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.datasets.preparing import prepare
from kdmri_lib.deployment.export import export
from kdmri_lib.deployment.model import read_model
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import sha256_file, write_text
from kdmri_study.runs import CURVE, SLICES, VOLUMES, WEIGHTS, RunFolder, trained
from kdmri_study.study import PROJECT, Study
from kdmri_study.tables import read_metrics, write_table
from tests.studies import CELL, sharing_data, small_profile, until_it_trains


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for pattern in patterns for p in sorted(folder.glob(pattern))}


def of_run(folder: Path) -> dict[str, str]:
    return digests(folder, WEIGHTS, CURVE, VOLUMES, SLICES)


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "kdmri_lib", *map(str, arguments)]


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
    return many if request.config.getoption("-m") != "not slow" else few


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
    prepare(whole.dataset("cardiac"), whole.prepared("cardiac"))
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
        about = {"profile": profile, "folder": one.folder, "dataset": "cardiac", "acceleration": 8}
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


DAMAGES = {
    "emptied": lambda content: b"",
    "cut in the middle": lambda content: content[: len(content) // 2],
    "a bit flipped": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 16]) + content[len(content) // 2 + 1 :]
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [WEIGHTS, CURVE, VOLUMES, SLICES, "run.json"])
def test_a_damaged_file_of_a_run_is_named_and_the_run_made_again(study, name, damage):
    run = study.methods(CELL, 0)["student"]
    folder = trained(study, run)
    right = of_run(folder.path)
    path = folder.path / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert RunFolder(study, run).state() in (f"{name} is damaged", "out of date") or name == "run.json"
    assert "finished" not in RunFolder(study, run).state()
    assert of_run(trained(study, run).path) == right


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused(study, tmp_path, damage):
    profile = small_profile(tmp_path / "longer.yaml", 400)
    here = sharing_data(profile, tmp_path / "here", study)
    run = here.methods(CELL, 0)["student"]
    path = RunFolder(here, run).path / "checkpoint.pt"
    asked = []
    with suppress(Exception):
        trained(here, run, stop=lambda: asked.append(1) or len(asked) > 5)
    content = path.read_bytes()
    path.write_bytes(DAMAGES[damage](content))
    with pytest.raises(StudyError, match=r"checkpoint.pt: damaged .*; delete it and the run begins anew"):
        trained(here, run)
    path.write_bytes(content)
    assert trained(here, run).state() == "finished", "the right one goes on"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_prepared_data_are_refused(tmp_path, prepared_study, damage):
    path = tmp_path / "prepared.h5"
    content = prepared_study.prepared("cardiac").read_bytes()
    if damage == "a bit flipped":  # within an image; other bytes of HDF5 may hold nothing
        with h5py.File(prepared_study.prepared("cardiac")) as file:
            place = next(iter(file["volumes"].values())).id.get_chunk_info(0).byte_offset + 1000
        content = content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]
    path.write_bytes(content if damage == "a bit flipped" else DAMAGES[damage](content))
    with pytest.raises(StudyError, match=r"prepared.h5"):
        list(read_prepared(path))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_metrics_make_no_table_1(tmp_path, damage):
    study = Study("smoke", tmp_path)
    table = pd.DataFrame({"method": ["student"] * 9, "psnr": np.linspace(20, 30, 9)})
    for cell in study.cells:
        write_table(table, study.table(f"volumes_{cell.tag}"), ["run"])
    assert len(read_metrics(study, "volumes")) == 9 * len(study.cells)
    path = study.table(f"volumes_{study.cells[1].tag}")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(StudyError, match=rf"{path.name}: not as notebook 03 wrote it"):
        read_metrics(study, "volumes")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_network_is_refused(study, tmp_path, damage):
    path = tmp_path / "network.onnx"
    export(trained(study, study.methods(CELL, 0)["student"]), path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(StudyError, match=r"network.onnx"):
        read_model(path)


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
    write_text(path, "a")  # which shows how such files are called
    from kdmri_lib.storage import HOST

    left, living = (tmp_path / f".{HOST}-{pid}.partial.x.txt" for pid in (dead.pid, os.getppid()))
    for one in (left, living):
        one.write_text("half")
    write_text(path, "b")
    assert not left.exists() and living.exists() and path.read_text() == "b"


def may_mount() -> bool:
    """Whether a small file system can be made here."""
    tried = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(tried, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="needs a mount namespace")
def test_a_disk_that_fills_again_and_again_loses_nothing(study, tmp_path):
    """Prepare, train and execute a notebook on a file system that is a little larger at each start, until all fits."""
    profile = small_profile(tmp_path / "small.yaml", 60)
    whole = Study(str(profile), tmp_path / "whole")
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    run = whole.methods(CELL, 0)["student"]

    def commands(folder: Path) -> str:
        notebook = f"notebooks/03_distillation.ipynb {folder}/results/small/notebooks/03.ipynb"
        about = " ".join(
            f"--parameter {name}={value}"
            for name, value in (("profile", profile), ("folder", folder), ("dataset", "cardiac"), ("acceleration", 8))
        )
        where = f"--profile {profile} --folder {folder}"
        kdmri = f"{sys.executable} -m kdmri_lib"
        return (
            f"{kdmri} prepare {where} cardiac && {kdmri} train {where} {run.id} && {kdmri} notebook {notebook} {about}"
        )

    steps = " ".join(f"{size}k" for size in (100, 500, 700, 1000, 1400, 2000, 50_000))
    script = f"""
        mount -t tmpfs -o size=50k none {disk}
        for size in {steps}; do
            mount -o remount,size=$size {disk}
            if {commands(disk)}; then echo "FINISHED at $size"; break; else echo "STOPPED at $size"; fi
        done > {log} 2>&1
        cp -r {disk} {tmp_path}/kept
    """
    subprocess.run(["unshare", "-Urm", "bash", "-c", script], check=True, cwd=PROJECT, timeout=400)
    said = log.read_text()
    assert "left out" not in said, "a volume that can't be stored is no volume that can't be read"
    assert said.count("STOPPED") >= 3 and "FINISHED" in said
    assert said.count("No space left on device") >= said.count("STOPPED")
    subprocess.run(["bash", "-c", commands(whole.folder)], check=True, cwd=PROJECT, capture_output=True)
    patterns = (
        "data/prepared/*",
        "results/*/tables/*.csv",
        "results/*/figures/*.png",
        "results/*/runs/*/*.safetensors",
    )
    expected = digests(whole.folder, *patterns)
    assert len(expected) > 10 and digests(tmp_path / "kept", *patterns) == expected


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_volume_that_cannot_be_stored_stops_preparing_and_is_not_left_out(prepared_study, tmp_path, jobs):
    """Under a limit on file size that one of the volumes is above."""
    study = Study("smoke", tmp_path)
    code = (
        "import resource, signal, sys\n"
        "from kdmri_lib.datasets.preparing import prepare\nfrom kdmri_lib.errors import UnwritableError\n"
        "from kdmri_study.study import Study\n"
        "if __name__ == '__main__':\n"
        "    study = Study('smoke', sys.argv[1])\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "    try:\n        prepare(study.dataset('cardiac'), study.prepared('cardiac'), int(sys.argv[2]))\n"
        "    except UnwritableError as error:\n        print(error)\n"
    )
    (tmp_path / "limited.py").write_text(code)
    result = subprocess.run(
        [sys.executable, tmp_path / "limited.py", study.folder, str(jobs)], capture_output=True, text=True, timeout=120
    )
    assert ".h5: can't be written (File too large); nothing was replaced" in result.stdout, result.stderr
    assert not study.prepared("cardiac").exists() and "left out" not in result.stderr
    prepare(study.dataset("cardiac"), study.prepared("cardiac"))
    assert study.prepared("cardiac").read_bytes() == prepared_study.prepared("cardiac").read_bytes()


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout whose environment is the one that runs the tests."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".git", ".venv", "results", ".snakemake", "prepared", "__pycache__")
    shutil.copytree(PROJECT, folder, ignore=ignored)
    (folder / "environment.sh").write_text(f'export PATH="{Path(sys.executable).parent}:$PATH" PYTHONPATH="{folder}"\n')
    return folder


def run_all(checkout: Path, *arguments: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [checkout / "run_all.sh", "--profile", "smoke", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,
    )


def test_a_second_start_in_one_checkout_says_so_and_the_first_goes_on(checkout):
    target = checkout / "data" / "prepared" / Study("smoke").prepared("knee").name
    first = run_all(checkout, str(target))
    while first.poll() is None and not (checkout / "results" / ".lock").exists():
        time.sleep(0.01)
    second = run_all(checkout, str(target))
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 1 and "another ./run_all.sh is at work in" in said
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 0 and target.exists(), said
    third = run_all(checkout, str(target))
    said, _ = third.communicate(timeout=120)
    assert third.returncode == 0, "the lock of one that ended, however it did, holds nobody"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_all_asked_to_stop_has_its_trainings_save_and_ends(checkout, prepared_study, number):
    profile = small_profile(checkout / "profiles" / "longer.yaml", 20_000)
    study = Study(str(profile), checkout)
    study.prepared("cardiac").parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(prepared_study.prepared("cardiac"), study.prepared("cardiac"))
    folder = RunFolder(study, study.methods(CELL, 0)["student"]).path
    process = subprocess.Popen(
        [checkout / "run_all.sh", "--profile", profile, "--jobs", "1", str(folder / "run.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As from a terminal; a shell can't trap what was ignored when it started, as test workers do.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until_it_trains(process, folder)
    everyone = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and "of 20000; start again to go on from there" in said
    assert said.strip().splitlines()[-1] == "kdmri: not finished; the same command goes on from here"
    assert not [p for p in everyone if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not (folder / "run.json").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_results_that_cannot_be_written_are_one_message_and_stay_as_they_are(study, tmp_path):
    run = study.methods(CELL, 0)["student"]
    results = study.folder / "results"
    results.mkdir()
    (results / "kept.txt").write_text("kept")
    results.chmod(0o555)
    # Root without the right to write everywhere.
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    result = subprocess.run(
        [*without, *command("train", "--profile", "smoke", "--folder", study.folder, run.id)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=PROJECT,
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("kdmri: ") and "results" in last and "Permission denied" in last
    assert {p.name for p in results.iterdir()} == {"kept.txt"}
