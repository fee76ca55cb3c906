"""Notebooks by themselves: from an empty folder, with parameters of one's own, stopped while they train."""

import io
import time

import nibabel
import numpy as np
import pytest
import torch
from jupyter_client.manager import start_new_kernel

from kdmri_lib.storage import PROJECT, read_checked, read_json
from kdmri_study.evidence import job, train_job
from kdmri_study.profile import Study
from kdmri_study.workflow import execute, pages
from tests.studies import JOB, runs_of, sharing_data, small_profile

ALONE = {page.notebook: page.parameters for page in pages(Study("smoke"))}
# One by default, of the quickest images; all by --long.
CASES = [
    ("02_teacher_training", {"setting": "cardiac_8x"}),
    *(pytest.param(n, {}, marks=pytest.mark.slow) for n in ALONE),
]


def executed(name: str, study: Study, **parameters) -> list[dict]:
    """The outputs of a notebook that was executed from what is in a study's folder."""
    out = study.folder / f"{name}.ipynb"
    given = {**ALONE[name], "profile": study.source, "folder": str(study.folder), **parameters}
    execute(
        PROJECT / "notebooks" / out.name, out, {k: v for k, v in given.items() if k in ALONE[name] or k in parameters}
    )
    return [output for cell in read_json(out)["cells"] for output in cell.get("outputs", [])]


@pytest.mark.parametrize(("name", "given"), CASES)
def test_a_notebook_runs_alone_from_an_empty_folder(name, given, tmp_path):
    """It prepares and trains what it needs; no bar stays behind."""
    outputs = str(executed(name, Study("smoke", tmp_path), **given))
    assert "image/png" in outputs and "<progress" not in outputs


@pytest.mark.slow
def test_a_scan_of_ones_own_is_reconstructed(tmp_path):
    image = np.random.default_rng(0).random((90, 100, 12)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([2.0, 2.0, 4.0, 1.0])), tmp_path / "own_scan.nii.gz")
    study = Study("smoke", tmp_path)
    usual = executed("03_distillation", study)
    assert len(executed("03_distillation", study, scan=f"{tmp_path}/own_scan.nii.gz")) > len(usual)


@pytest.mark.slow
def test_notebooks_show_complex_images(tmp_path):
    study = Study(str(small_profile(tmp_path / "complex.yaml", domain="complex")), tmp_path)
    train_job(study, job(study, JOB))
    executed("01_data_preparation", study, dataset="cardiac")
    for name in ("02_teacher_training", "03_distillation", "07_deployment"):
        executed(name, study, setting="cardiac_8x")


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
        # Else what comes right after its error isn't executed.
        client.execute(CODE.format(profile=study.source, folder=str(tmp_path)), stop_on_error=False)
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
