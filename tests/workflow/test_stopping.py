"""A kernel that is stopped while it trains: what was trained is kept, and one line says so."""

import io
import re
import time

import pytest
import torch
from jupyter_client.manager import start_new_kernel

from kdmri_lib.storage import PROJECT, read_checked
from kdmri_study.study import Study
from tests.studies import CELL, sharing_data, small_profile

CODE = """
from kdmri_study.notebook import Notebook
here = Notebook("03_distillation", {profile!r}, {folder!r}, cell="cardiac_8x")
rows = {{0: {{"teacher": here.study.rows(here.study.cell("cardiac_8x"), 0)["teacher"]}}}}
here.trained(rows)
"""


@pytest.fixture
def training(prepared_study, tmp_path):
    """A kernel at a training that takes minutes and, left alone, saves nothing in the first of them; and its study."""
    profile = small_profile(tmp_path / "long.yaml", steps=100_000)
    study = sharing_data(profile, tmp_path, prepared_study)
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(PROJECT / "notebooks"))
    client.execute(CODE.format(profile=str(profile), folder=str(tmp_path)))
    yield manager, client, study
    client.stop_channels()
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)


def until(client, kind: str, pattern: str = "") -> tuple[str, dict]:
    """The first message of this kind whose text holds the pattern, and what was found there."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        message = client.get_iopub_msg(timeout=90)
        content = message["content"]
        assert kind == "error" or message["msg_type"] != "error", content
        text = content.get("data", {}).get("text/plain", "")
        if message["msg_type"] == kind and (found := re.search(pattern, text)):
            return found, content
    raise AssertionError(f"no {kind} with {pattern}")


def kept(study: Study) -> int:
    """The step that a teacher's training will go on from."""
    folder = study.results / "runs" / study.methods(CELL, 0)["teacher"].id
    return torch.load(io.BytesIO(read_checked(folder / "checkpoint.pt")), weights_only=True)["step"]


def shown_step(client) -> int:
    found, _ = until(client, "update_display_data", r"Teacher, seed 0: step ([\d,]+) of 100,000.* left")
    return int(found[1].replace(",", ""))


def test_an_interrupted_cell_and_a_kernel_that_is_shut_down_keep_every_step(training):
    manager, client, study = training
    seen = max(shown_step(client) for _ in range(3))
    manager.interrupt_kernel()
    until(client, "update_display_data", r"^Trained 0 of 1 network in \d+ s\.$")
    _, error = until(client, "error")
    assert error["traceback"] == [
        "kdmri: stopped; all that was trained is kept, and this cell, run again, goes on from there"
    ]
    first = kept(study)
    assert first >= seen > 0
    client.execute("here.trained(rows)")
    again = shown_step(client)
    assert again > first
    manager.shutdown_kernel()
    assert kept(study) >= again
