"""Commands end with one clear line, also when they fail."""

import subprocess
import sys

import pytest

from kdmri_lib.storage import PROJECT


def command(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "kdmri_lib", *arguments],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=120,
        **more,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "--profile", "nope"), "kdmri: unknown profile 'nope'"),
        (("train", "--profile", "smoke", "nope"), "kdmri: profile 'smoke' has no run 'nope'"),
        (
            ("check", "--profile", "table1", "--names", "brain_4x_seed5", "prepare_knee", "brain_4x_seed6"),
            "kdmri: profile 'table1' makes nothing called 'brain_4x_seed6'; pieces: brain_4x_seed0, ",
        ),
        (("notebook", "nope.ipynb", "out.ipynb"), "kdmri: nope.ipynb: no such notebook"),
        (
            ("notebook", "notebooks/09_report.ipynb", "out.ipynb", "--parameter", "porfile=smoke"),
            "kdmri: 09_report.ipynb has no parameter porfile",
        ),
    ],
)
def test_commands_end_with_one_clear_line(arguments, message):
    result = command(*arguments)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if not line.startswith("[IPKernelApp]")]
    assert len(lines) == 1 and lines[0].startswith(message)


def test_check_says_what_a_profile_holds():
    result = command("check", "--profile", "quick")
    assert result.returncode == 0 and "brain_4x" in result.stdout


def test_a_notebook_that_fails_names_its_cell_and_leaves_no_output(tmp_path):
    result = command(
        *("notebook", "notebooks/03_distillation.ipynb", str(tmp_path / "out.ipynb")),
        *("--parameter", "profile=smoke", "--parameter", f"folder={tmp_path}", "--parameter", "cell=brain_9x"),
    )
    assert result.returncode == 1
    assert "kdmri: 03_distillation.ipynb, cell" in result.stderr
    assert "profile 'smoke' has no cell 'brain_9x'; it has brain_4x" in result.stderr
    assert not (tmp_path / "out.ipynb").exists() and (tmp_path / "out.failed.ipynb").exists()
