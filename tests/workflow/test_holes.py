"""A training whose loss becomes NaN for real: the rest goes on, and everything made from it shows a hole, not a number."""

import functools
import re
import sys

import pandas as pd
import pytest
import torch

from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import METRICS
from kdmri_lib.losses.attention_transfer import AttentionTransfer
from kdmri_study.__main__ import main
from kdmri_study.evidence import job, jobs, train_job
from kdmri_study.models import kept_run
from kdmri_study.profile import Study
from kdmri_study.report import _write_pages
from kdmri_study.runs import RunFolder
from tests.studies import JOB, ROWS, runs_of, small_profile

FAILED = "attention_transfer"
EXPERIMENT = {
    "notebook": "05_ablations",
    "dataset": "cardiac",
    "undersampling": {"acceleration": 8},
    "parts": ["ablation"],
}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """A study of a setting and an experiment that shares its runs, in which attention transfer's loss is NaN from its fifth
    step on; its tables, made from the evidence alone."""
    folder = tmp_path_factory.mktemp("holes")
    experiments = {"ablations": EXPERIMENT}
    study = Study(str(small_profile(folder / "holes.yaml", cardiac={"test": 6}, experiments=experiments)), folder)
    right, calls = AttentionTransfer.forward, []

    @functools.wraps(right)  # of the same source, or its run would be out of date
    def wrong(loss, target, prediction, teacher):
        calls.append(1)
        return right(loss, target, prediction, teacher) * (torch.nan if len(calls) >= 5 else 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AttentionTransfer, "forward", wrong)
        for each in jobs(study).values():
            train_job(study, each)
        patch.setattr(sys, "argv", ["kdmri", "tables", "--profile", study.source, "--folder", str(folder)])
        (study.results / "runs").rename(folder / "aside")
        assert main() == 0
        (folder / "aside").rename(study.results / "runs")
    return study


def test_the_run_says_at_which_step_and_what_needs_it_why_and_neither_is_trained_again(study):
    folders = {name: RunFolder(study, run) for name, run in runs_of(study).items()}
    assert {name for name, folder in folders.items() if folder.state() == "failed"} == {FAILED, "distilled"}
    assert "the loss is nan at step 4; its batch: phantom" in folders[FAILED].failed
    assert f"needs one that failed (run cardiac-8x-{FAILED}" in folders["distilled"].failed
    assert (folders[FAILED].path / "checkpoint.pt").exists(), "the last good one"
    assert folders[FAILED].outcome.curve.step.tolist() == [3, 4] and not folders[FAILED].weights.exists()
    with pytest.raises(StudyError, match=r"no network: .*the loss is nan at step 4"):
        kept_run(folders["distilled"], "distilled")
    before = {name: (folder.path / "run.json").stat().st_mtime_ns for name, folder in folders.items()}
    train_job(study, job(study, JOB))
    assert {name: (folder.path / "run.json").stat().st_mtime_ns for name, folder in folders.items()} == before


def test_tables_and_report_have_holes_where_they_belong_and_name_what_failed(study, tmp_path):
    table = pd.read_csv(study.table("table1")).set_index(["aggregation", "method"])
    assert set(table[table.psnr.isna()].index) == {("volume", "distilled"), ("slice", "distilled")}
    assert len(table) == 2 * len(ROWS)
    assert table.drop("distilled", level="method")[list(METRICS)].notna().all(axis=None)
    read = {path.stem: path.read_text() for path in study.results.glob("tables/*.md")}
    assert re.search(r"\| Distilled student +\| – +\| – ", read["table1"])
    assert not re.search(r"\bnan", "".join(read.values()))
    tests = pd.read_csv(study.table("comparisons"))
    asked = tests.a.eq("distilled") | tests.b.eq("distilled")
    assert asked.any() and tests[asked][["difference", "p_people_holm"]].isna().all(axis=None)
    assert tests[~asked].difference.notna().all()
    assert pd.read_csv(study.table("ablations_ablation")).psnr.isna().any()
    named = study.failed.read_text().splitlines()
    assert len(named) >= 3 and all(FAILED in line for line in named)
    _write_pages(study, tmp_path / "pages")
    page = (tmp_path / "pages" / "index.md").read_text()
    assert "Trainings that failed" in page and "the loss is nan at step 4" in page
