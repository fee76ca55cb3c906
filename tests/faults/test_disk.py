"""Disks that fill, limits on files, folders without permission: one message, and nothing replaced or left out."""

import os
import shutil
import subprocess
import sys

import pytest

from kdmri_lib.storage import PROJECT
from kdmri_study.profile import Study
from kdmri_study.runs import prepare_dataset
from tests.faults.test_kills import made
from tests.studies import JOB, command, small_profile


def may_mount() -> bool:
    """Whether a small file system can be made here."""
    tried = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(tried, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs a mount namespace")
@pytest.mark.parametrize("sizes", [(600,), pytest.param((100, 300, 500, 700, 900, 1200, 1600), marks=pytest.mark.slow)])
def test_a_disk_that_fills_again_and_again_loses_nothing(tmp_path, sizes):
    """Train a job and make its tables on a file system that is a little larger at each start, until all fits."""
    profile = small_profile(tmp_path / "small.yaml", 12)
    whole = Study(str(profile), tmp_path / "whole")
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()

    def commands(folder) -> str:
        where = ("--profile", profile, "--folder", folder)
        return " && ".join(map(" ".join, (command("train", *where, JOB), command("tables", *where))))

    script = f"""
        mount -t tmpfs -o size=50k none {disk}
        for size in {" ".join(f"{size}k" for size in (*sizes, 50_000))}; do
            mount -o remount,size=$size {disk}
            if {commands(disk)}; then echo "FINISHED at $size"; break; else echo "STOPPED at $size"; fi
        done > {log} 2>&1
        cp -r {disk} {tmp_path}/kept
    """
    subprocess.run(["unshare", "-Urm", "bash", "-c", script], check=True, cwd=PROJECT, timeout=900)
    said = log.read_text()
    assert "left out" not in said, "a volume that can't be stored is no volume that can't be read"
    assert said.count("STOPPED") >= len(sizes) / 2 and "FINISHED" in said
    assert said.count("No space left on device") >= said.count("STOPPED")
    subprocess.run(["bash", "-c", commands(whole.folder)], check=True, cwd=PROJECT, capture_output=True)
    assert len(made(whole)) > 10 and made(Study(str(profile), tmp_path / "kept")) == made(whole)


LIMITED = """
import resource, signal, sys
from kdmri_study.__main__ import main
if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
    del sys.argv[1]
    sys.exit(main())
"""


@pytest.mark.parametrize(
    ("limit", "asked", "file"),
    [
        (60_000, ("prepare", "cardiac"), ".h5"),
        (60_000, ("prepare", "cardiac", "--jobs", "2"), ".h5"),
        (4096, ("train", JOB), "checkpoint.pt"),
    ],
)
def test_a_limit_on_file_size_stops_with_one_message_and_leaves_nothing_out(
    prepared_study, tmp_path, limit, asked, file
):
    """Of a data set one volume is above it."""
    study = Study("smoke", tmp_path)
    cardiac = study.dataset("cardiac")
    right = prepared_study.prepared(cardiac)
    if asked[0] == "train":
        study.prepared(cardiac).parent.mkdir(parents=True)
        shutil.copy(right, study.prepared(cardiac))
    (tmp_path / "limited.py").write_text(LIMITED)
    told = subprocess.run(
        [sys.executable, tmp_path / "limited.py", str(limit), *asked, "--profile", "smoke", "--folder", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    assert told.returncode == 1 and "left out" not in told.stderr
    assert f"{file}: can't be written (File too large); nothing was replaced" in told.stderr.strip().splitlines()[-1]
    if asked[0] == "train":
        assert not list(study.results.glob("runs/*/run.json"))
    else:
        assert not study.prepared(cardiac).exists()
        prepare_dataset(study, cardiac)
        assert study.prepared(cardiac).read_bytes() == right.read_bytes()


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_results_that_cannot_be_written_are_one_message_and_stay_as_they_are(study):
    results = study.folder / "results"
    results.mkdir()
    (results / "kept.txt").write_text("kept")
    results.chmod(0o555)
    # Root without the right to write everywhere.
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    asked = [*without, *command("train", "--profile", "smoke", "--folder", study.folder, JOB)]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=120, cwd=PROJECT)
    assert told.returncode == 1
    last = told.stderr.strip().splitlines()[-1]
    assert last.startswith("kdmri: ") and "results" in last and "Permission denied" in last
    assert {p.name for p in results.iterdir()} == {"kept.txt"}
