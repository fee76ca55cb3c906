"""A training whose loss becomes NaN for real: the rest goes on, and everything made from it shows a hole, not a number."""

import functools
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch

from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import METRICS
from kdmri_lib.losses.attention_transfer import AttentionTransfer
from kdmri_lib.storage import PROJECT
from kdmri_study.evidence import job, jobs, train_job
from kdmri_study.models import kept_run
from kdmri_study.profile import Study
from kdmri_study.report import _write_pages
from kdmri_study.runs import RunFolder
from tests.studies import JOB, ROWS, command, runs_of, small_profile

FAILED = "attention_transfer"
EXPERIMENT = {"notebook": "05_ablations", "dataset": "cardiac", "degradation": {"acceleration": 8}}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """A study of a setting and an experiment that shares its runs, in which attention transfer's loss is NaN from its fifth
    step on; its tables, made from the evidence alone."""
    folder = tmp_path_factory.mktemp("holes")
    experiments = {"ablations": EXPERIMENT | {"parts": ["ablation"]}}
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
    shutil.move(study.results / "runs", folder / "aside")
    asked = command("tables", "--profile", study.source, "--folder", folder)
    done = subprocess.run(asked, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0 and "kdmri: trainings failed, whose numbers are holes" in done.stderr, done.stderr
    shutil.move(folder / "aside", study.results / "runs")
    return study


def test_the_run_says_at_which_step_and_what_needs_it_says_why_it_failed(study):
    folders = {name: RunFolder(study, run) for name, run in runs_of(study).items()}
    assert {name for name, folder in folders.items() if folder.state() == "failed"} == {FAILED, "distilled"}
    assert "the loss is nan at step 4; its batch: phantom" in folders[FAILED].failed
    assert f"needs one that failed (run cardiac-8x-{FAILED}" in folders["distilled"].failed
    assert (folders[FAILED].path / "checkpoint.pt").exists(), "the last good one"
    curve = folders[FAILED].outcome.curve
    assert curve.step.tolist() == [3, 4] and np.isnan(curve.validation_psnr.iloc[-1])
    assert not folders[FAILED].weights.exists()
    with pytest.raises(StudyError, match=r"no network: .*the loss is nan at step 4"):
        kept_run(folders["distilled"], "distilled")


def test_the_tables_have_holes_where_they_belong(study):
    table = pd.read_csv(study.table("table1")).set_index(["aggregation", "method"])
    holes = table[table.psnr.isna()]
    assert set(holes.index) == {("volume", "distilled"), ("slice", "distilled")} and len(table) == 2 * len(ROWS)
    assert table.drop("distilled", level="method")[list(METRICS)].notna().all(axis=None)
    read = {path.stem: path.read_text() for path in study.results.glob("tables/*.md")}
    assert re.search(r"\| Distilled student +\| – +\| – ", read["table1"]) and not re.search(
        r"\bnan", "".join(read.values())
    )
    tests = pd.read_csv(study.table("comparisons"))
    asked = tests.a.eq("distilled") | tests.b.eq("distilled")
    assert asked.any() and tests[asked].difference.isna().all() and tests[asked].p_people_holm.isna().all()
    assert tests[~asked].difference.notna().all()
    ablations = pd.read_csv(study.table("ablations_ablation")).set_index("method").psnr
    assert ablations.isna().any() and ablations["student"] > 0


def test_what_failed_is_named_in_a_file_and_in_the_report(study, tmp_path):
    named = study.failed.read_text().splitlines()
    assert len(named) >= 3 and all("attention_transfer" in line for line in named)
    _write_pages(study, tmp_path / "pages")
    page = (tmp_path / "pages" / "index.md").read_text()
    assert "Trainings that failed" in page and "the loss is nan at step 4" in page


def test_a_failed_run_is_not_trained_again_until_it_is_deleted(study):
    run = runs_of(study)[FAILED]
    record = RunFolder(study, run).path / "run.json"
    before = record.stat().st_mtime_ns
    train_job(study, job(study, JOB))
    assert record.stat().st_mtime_ns == before
