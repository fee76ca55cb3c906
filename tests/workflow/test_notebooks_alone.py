"""Notebooks by themselves: from an empty folder, with parameters of one's own, stopped while they train."""

import io
import time

import nibabel
import numpy as np
import pytest
import torch
from jupyter_client.manager import start_new_kernel

from kdmri_lib.storage import PROJECT, read_checked, read_json
from kdmri_study.profile import Study
from kdmri_study.workflow import execute, pages
from tests.studies import runs_of, sharing_data, small_profile

QUICK = ("06_super_resolution",)  # the others by --long
ALONE = list({page.notebook: page for page in pages(Study("smoke"))})


def executed(name: str, folder, **parameters) -> list[dict]:
    """The outputs of a notebook that was executed from what is in a folder."""
    study = Study("smoke", folder)
    page = next(page for page in pages(study) if page.notebook == name)
    execute(page.source, page.executed(study), {**page.parameters, **parameters})
    return [output for cell in read_json(page.executed(study))["cells"] for output in cell.get("outputs", [])]


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ALONE])
def test_a_notebook_runs_alone_from_an_empty_folder(name, tmp_path):
    """It prepares and trains what it needs; no bar stays behind."""
    outputs = executed(name, tmp_path)
    assert outputs
    assert not any("<progress" in "".join(o.get("data", {}).get("text/html", "")) for o in outputs)


@pytest.mark.slow
def test_a_scan_of_ones_own_is_reconstructed(tmp_path):
    image = np.random.default_rng(0).random((90, 100, 12)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([2.0, 2.0, 4.0, 1.0])), tmp_path / "own_scan.nii.gz")
    usual = executed("03_distillation", tmp_path)
    assert len(executed("03_distillation", tmp_path, scan=str(tmp_path / "own_scan.nii.gz"))) > len(usual)


CODE = """
from kdmri_study.notebook import open_study, train
study = open_study({profile!r}, {folder!r})
rows = {{"teacher": study.rows(study.setting("cardiac_8x"), 0)["teacher"]}}
train(study, rows)
"""


def test_an_interrupted_cell_and_a_kernel_that_is_shut_down_keep_every_step(prepared_study, tmp_path):
    """At a training that takes minutes and, left alone, saves nothing in the first of them."""
    study = sharing_data(small_profile(tmp_path / "long.yaml", steps=100_000), tmp_path, prepared_study)
    folder = study.results / "runs" / runs_of(study)["teacher"].id

    def kept() -> int:
        """The step that the training will go on from."""
        return torch.load(io.BytesIO(read_checked(folder / "checkpoint.pt")), weights_only=True)["step"]

    def begun() -> None:
        """Wait until it trains, and some seconds more."""
        while not (folder / "sitting.json").exists():
            time.sleep(0.05)
        time.sleep(3)

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(PROJECT / "notebooks"))
    try:
        client.execute(CODE.format(profile=study.source, folder=str(tmp_path)))
        begun()
        manager.interrupt_kernel()
        while (message := client.get_iopub_msg(timeout=90))["msg_type"] != "error":
            pass
        said = "kdmri: stopped; all that was trained is kept, and this cell goes on from there"
        assert message["content"]["traceback"] == [said]
        first = kept()
        assert first > 0
        (folder / "sitting.json").unlink()
        client.execute("train(study, rows)")
        begun()
        manager.shutdown_kernel()
        assert kept() > first
    finally:
        client.stop_channels()
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)
