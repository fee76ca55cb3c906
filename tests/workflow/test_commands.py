"""Commands end with one clear line, also when they fail."""

import subprocess

import pytest

from kdmri_lib.storage import PROJECT
from tests.studies import command


def told(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=PROJECT, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "--profile", "nope"), "kdmri: unknown profile 'nope'"),
        (("prepare", "--profile", "smoke", "nope"), "kdmri: profile 'smoke' has no data set 'nope'; it has brain, "),
        (("train", "--profile", "smoke", "nope"), "kdmri: profile 'smoke' has no job 'nope'; it has brain_4x_seed0, "),
        (
            ("check", "--profile", "table1", "--names", "brain_4x_seed5", "report", "brain_4x_seed6"),
            "kdmri: profile 'table1' makes nothing called 'brain_4x_seed6'; it makes brain_4x_seed0, ",
        ),
        (("notebook", "nope.ipynb", "out.ipynb"), "kdmri: nope.ipynb: no such notebook"),
        (
            ("notebook", "notebooks/09_report.ipynb", "out.ipynb", "--parameter", "porfile=smoke"),
            "kdmri: 09_report.ipynb has no parameter porfile",
        ),
    ],
)
def test_commands_end_with_one_clear_line(arguments, message):
    result = told(*arguments)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if not line.startswith("[IPKernelApp]")]
    assert len(lines) == 1 and lines[0].startswith(message)


def test_check_says_what_a_profile_holds():
    result = told("check", "--profile", "quick")
    assert result.returncode == 0 and result.stdout.startswith("profile quick: ")


def test_a_notebook_that_fails_names_its_cell_and_leaves_no_output(tmp_path):
    given = {"profile": "smoke", "folder": tmp_path, "setting": "brain_9x"}
    pairs = [text for name, value in given.items() for text in ("--parameter", f"{name}={value}")]
    result = told("notebook", "notebooks/03_distillation.ipynb", tmp_path / "out.ipynb", *pairs)
    assert result.returncode == 1
    assert "kdmri: 03_distillation.ipynb, cell" in result.stderr
    assert "profile 'smoke' has no setting 'brain_9x'; it has brain_4x" in result.stderr
    assert not (tmp_path / "out.ipynb").exists() and (tmp_path / "out.failed.ipynb").exists()
