"""Commands end with one clear line, also when they fail; those of the README do as somebody types them in a clone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kdmri_lib.storage import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")
LINES = {
    line.partition(" # ")[0].strip()
    for block in re.findall(r"^```(?:bash|sh)?\n(.*?)^```", README, re.M | re.S)
    for line in block.replace("\\\n", " ").splitlines()
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prepare", "--profile", "smoke", "nope"), "kdmri: profile 'smoke' has no data set 'nope'; it has brain, "),
        (
            ("check", "--profile", "table1", "--names", "brain_4x_seed5", "report", "brain_4x_seed6"),
            "kdmri: profile 'table1' makes nothing called 'brain_4x_seed6'; it makes brain_4x_seed0, ",
        ),
    ],
)
def test_commands_end_with_one_clear_line(kdmri, arguments, message):
    status, said = kdmri(*arguments)
    assert status == 1 and said.startswith(message) and said.count("\n") == 1


def test_a_notebook_that_fails_names_its_cell_and_leaves_no_output(kdmri, tmp_path):
    given = {"profile": "smoke", "folder": tmp_path, "setting": "brain_9x"}
    pairs = [text for name, value in given.items() for text in ("--parameter", f"{name}={value}")]
    source = PROJECT / "notebooks" / "03_distillation.ipynb"
    status, said = kdmri("notebook", source, tmp_path / "o.ipynb", *pairs)
    assert status == 1 and "kdmri: 03_distillation.ipynb, cell" in said
    assert "profile 'smoke' has no setting 'brain_9x'; it has brain_4x" in said
    assert not (tmp_path / "o.ipynb").exists() and (tmp_path / "o.failed.ipynb").exists()


def test_what_the_readme_runs_in_seconds_does_as_it_stands(tmp_path):
    """A network is exported and reconstructs the sample, in a folder of its own with the project's data beside."""
    (tmp_path / "data").symlink_to(PROJECT / "data")
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(PROJECT)}
    lines = sorted(line for line in LINES if re.match("python -m kdmri_(study export|lib reconstruct)", line))
    done = subprocess.run(
        ["bash", "-ec", "\n".join(lines[::-1])], cwd=tmp_path, env=os.environ | path, capture_output=True, text=True
    )
    assert len(lines) == 2 and done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.onnx")) and list(tmp_path.glob("recon*"))


def test_what_else_the_readme_names_is_there(kdmri):
    scripts = {line.split()[0] for line in LINES if line.startswith("./")}
    assert {"./run_all.sh", "./run_tests.sh"} <= scripts and all(os.access(PROJECT / s, os.X_OK) for s in scripts)
    profiles = re.findall(r"(?:run_all\.sh|kdmri_study \w+) --profile (\w+)((?: [a-z]\w+)*)", README)
    for profile, names in profiles:
        status, said = kdmri(*f"check --headers --profile {profile} --names {names}".split())
        assert status == 0 or "data/downloads" in said, said
    commands = set(re.findall(r"python -m (kdmri_\w+ \w+|benchmarks)", README))
    assert profiles and len(commands) >= 3
    for package, *names in map(str.split, commands):
        assert kdmri(*names, "--help", package=package)[0] == 0
    notebooks = re.findall(r"notebooks/\w+\.ipynb", README)
    assert notebooks and all((PROJECT / name).exists() for name in notebooks)
