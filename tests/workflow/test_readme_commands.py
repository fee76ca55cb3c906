"""The commands of the README, as somebody types them in a clone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kdmri_lib.storage import PROJECT

LINES = [
    line.partition(" # ")[0].strip()
    for block in re.findall(r"^```(?:bash|sh)?\n(.*?)^```", (PROJECT / "README.md").read_text(), re.M | re.S)
    for line in block.replace("\\\n", " ").splitlines()
]
# What takes seconds is run as it stands; of the rest, that its options, profile and files are known.
QUICK = [line for line in LINES if line.startswith(("python -m kdmri_study export", "python -m kdmri_lib reconstruct"))]
PROFILES = re.findall(
    r"(?:run_all\.sh|kdmri_study \w+) --profile (\w+)((?: [a-z]\w+)*)", (PROJECT / "README.md").read_text()
)


def told(line: str, folder: Path = PROJECT) -> subprocess.CompletedProcess:
    found = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(PROJECT)}
    return subprocess.run(["bash", "-c", line], cwd=folder, env=os.environ | found, capture_output=True, text=True)


def test_a_network_is_exported_and_reconstructs_the_sample(tmp_path):
    """In a folder of its own, with the project's data beside."""
    (tmp_path / "data").symlink_to(PROJECT / "data")
    assert len(QUICK) >= 2
    for line in QUICK:
        done = told(line, tmp_path)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert list(tmp_path.glob("*.onnx")) and list(tmp_path.glob("recon*"))


@pytest.mark.parametrize(
    "line", sorted({line for line in LINES if line.startswith(("./run_all.sh", "./run_tests.sh"))})
)
def test_what_takes_minutes_is_there(line):
    assert os.access(PROJECT / line.split()[0], os.X_OK)


def test_every_profile_and_what_is_asked_of_it_and_every_other_command_is_known():
    for profile, names in PROFILES:
        done = told(f"python -m kdmri_study check --headers --profile {profile} --names {names}")
        assert done.returncode == 0 or "data/downloads" in done.stdout + done.stderr, done.stderr
    commands = set(re.findall(r"python -m (?:kdmri_\w+ \w+|benchmarks)", (PROJECT / "README.md").read_text()))
    assert PROFILES and len(commands) >= 3
    for line in commands:
        assert told(f"{line} --help").returncode == 0, line
    notebooks = re.findall(r"notebooks/\w+\.ipynb", (PROJECT / "README.md").read_text())
    assert notebooks and all((PROJECT / name).exists() for name in notebooks)
