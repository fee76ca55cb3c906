"""Disks that fill, limits on files, folders without permission: one message, and nothing replaced or left out."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from kdmri_lib.storage import PROJECT
from kdmri_study.profile import Study
from tests.studies import JOB, command, made, small_profile


def may_mount() -> bool:
    """Whether a small file system can be made here."""
    tried = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(tried, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="needs a mount namespace")
@pytest.mark.parametrize("sizes", [(300,), pytest.param((100, 300, 500, 700, 900, 1200, 1600), marks=pytest.mark.slow)])
def test_a_disk_that_fills_again_and_again_loses_nothing(tmp_path, kdmri, sizes):
    """Prepare images in two processes, train a job and make its tables on a file system that is a little larger at each
    start, until all fits."""
    steps = (("prepare", "cardiac", "--jobs", "2"), ("train", JOB), ("tables",))
    profile = small_profile(tmp_path / "small.yaml", 12)
    whole, disk, log = Study(str(profile), tmp_path / "whole"), tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    asked = [["kdmri", *step, "--profile", str(profile), "--folder", str(disk)] for step in steps]
    # In one process, since each takes seconds to start.
    code = f"import sys\nfrom kdmri_study.__main__ import main\nfor sys.argv in {asked}:\n    main() and sys.exit(1)"
    start = f"{sys.executable} -c {shlex.quote(code)}"
    script = f"""
        mount -t tmpfs -o size=50k none {disk}
        for size in {" ".join(f"{size}k" for size in (*sizes, 50_000))}; do
            mount -o remount,size=$size {disk}
            if {start}; then echo "FINISHED at $size"; break; else echo "STOPPED at $size"; fi
        done > {log} 2>&1
        cp -r {disk} {tmp_path}/kept
    """
    subprocess.run(["unshare", "-Urm", "bash", "-c", script], check=True, cwd=PROJECT, timeout=900)
    said = log.read_text()
    assert "left out" not in said, "a volume that can't be stored is no volume that can't be read"
    assert said.count("STOPPED") >= len(sizes) / 2 and "FINISHED" in said
    assert said.count("No space left on device") >= said.count("STOPPED")
    for step in steps:
        assert kdmri(*step, "--profile", profile, "--folder", whole.folder)[0] == 0
    assert len(made(whole)) > 10 and made(Study(str(profile), tmp_path / "kept")) == made(whole)


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
    last = told.stderr.strip().splitlines()[-1]
    assert told.returncode == 1 and last.startswith("kdmri: ") and "results" in last and "Permission denied" in last
    assert {p.name for p in results.iterdir()} == {"kept.txt"}
