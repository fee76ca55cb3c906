"""Disks that fill, limits on files, folders without permission: one message, and nothing replaced or left out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kdmri_lib.storage import PROJECT
from kdmri_study.runs import prepare_dataset
from kdmri_study.study import Study
from tests.faults.commands import command, digests
from tests.studies import CELL, small_profile


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
            for name, value in (("profile", profile), ("folder", folder), ("cell", CELL.tag))
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
        "from kdmri_lib.errors import UnwritableError\nfrom kdmri_study.runs import prepare_dataset\n"
        "from kdmri_study.study import Study\n"
        "if __name__ == '__main__':\n"
        "    study = Study('smoke', sys.argv[1])\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "    try:\n        prepare_dataset(study, 'cardiac', int(sys.argv[2]))\n"
        "    except UnwritableError as error:\n        print(error)\n"
    )
    (tmp_path / "limited.py").write_text(code)
    result = subprocess.run(
        [sys.executable, tmp_path / "limited.py", study.folder, str(jobs)], capture_output=True, text=True, timeout=120
    )
    assert ".h5: can't be written (File too large); nothing was replaced" in result.stdout, result.stderr
    assert not study.prepared("cardiac").exists() and "left out" not in result.stderr
    prepare_dataset(study, "cardiac")
    assert study.prepared("cardiac").read_bytes() == prepared_study.prepared("cardiac").read_bytes()


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
