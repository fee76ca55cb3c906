"""What a command costs: memory of its children, time, disk, of one that is known."""

import sys

import pytest

from benchmarks.commands import cost_of
from kdmri_lib.errors import StudyError

CHILD = "import time; held = bytearray(300_000_000); open('file', 'wb').write(held[:150_000_000]); time.sleep(2)"


def test_a_command_costs_what_it_and_its_children_take(tmp_path):
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}], check=True)"
    found = cost_of([sys.executable, "-c", parent], tmp_path)
    assert 0.3 <= found["memory / GB"] <= 0.5 and found["disk / GB"] == 0.2
    assert 0 <= found["minutes"] < 1


def test_a_command_that_fails_is_said(tmp_path):
    with pytest.raises(StudyError, match="ended with status 3"):
        cost_of([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
