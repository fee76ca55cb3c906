"""A training whose loss becomes NaN for real: the rest goes on, and everything made from it shows a hole, not a number."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from kdmri_lib.devices import cpu_has_bfloat16
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import METRICS
from kdmri_lib.losses.attention_transfer import AttentionTransfer
from kdmri_lib.storage import PROJECT
from kdmri_study.deploying import export
from kdmri_study.jobs import execute, jobs
from kdmri_study.pages import write_pages
from kdmri_study.rendering import failures
from kdmri_study.runs import RunFolder, prepare_dataset, trained
from kdmri_study.study import Study
from kdmri_study.verification import verify_runs
from tests.studies import BESIDE, CELL, ROWS

FAILED = "attention_transfer"


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """A study of one cell and the feature losses, in which attention transfer's loss is NaN from its fifth step on."""
    folder = tmp_path_factory.mktemp("holes")
    profile = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())
    cardiac = {"dataset": "cardiac", "degradation": {"acceleration": 8}}
    profile |= {
        "cells": {"cardiac": [8]},
        "beside": BESIDE,
        "datasets": {"cardiac": profile["datasets"]["cardiac"] | {"test": 6}},
        "experiments": {
            "feature_losses": {"notebook": "04_feature_distillation", "parts": ["comparison"], **cardiac},
            "ablations": {"notebook": "05_ablations", "parts": ["ablation", "sizes"], **cardiac},
        },
    }
    (folder / "holes.yaml").write_text(yaml.safe_dump(profile))
    study = Study(str(folder / "holes.yaml"), folder)
    prepare_dataset(study, "cardiac")
    right, calls = AttentionTransfer.forward, []

    def wrong(loss, target, prediction, teacher):
        calls.append(1)
        return right(loss, target, prediction, teacher) * (torch.nan if len(calls) >= 5 else 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AttentionTransfer, "forward", wrong)
        trained(study, study.methods(CELL, 0)["attention_transfer"])
    for job in (job for job in jobs(study) if job.notebook >= "02"):  # those before train nothing
        execute(job.source, job.executed(study), {"profile": study.source, "folder": str(folder), **job.parameters})
    return study


def test_the_run_says_at_which_step_and_on_which_slices(study):
    folder = RunFolder(study, study.methods(CELL, 0)["attention_transfer"])
    assert folder.state() == "failed"
    assert "the loss is nan at step 4; its batch: phantom" in folder.failed
    assert (folder.path / "checkpoint.pt").exists(), "the last good one"
    assert folder.curve.step.tolist() == [3, 4] and np.isnan(folder.curve.validation_psnr.iloc[-1])
    assert not (folder.path / "weights.safetensors").exists()


def test_what_needs_it_fails_too_and_says_why_and_all_else_is_there(study):
    runs = study.methods(CELL, 0)
    distilled = RunFolder(study, runs["distilled"])
    assert "needs one that failed (run cardiac-8x-attention_transfer" in distilled.failed
    states = {label: RunFolder(study, run).state() for label, run in runs.items()}
    assert {label for label, state in states.items() if state == "failed"} == {"attention_transfer", "distilled"}
    assert {state for state in states.values()} == {"failed", "finished"}
    found = failures(study)
    assert all("attention_transfer" in reason for reason in found.values()) and len(found) >= 3


def test_table_1_has_a_hole_and_the_verdict_says_nothing(study):
    table = pd.read_csv(study.table("table1")).set_index(["aggregation", "method"])
    holes = table[table.psnr.isna()]
    assert set(holes.index) == {("volume", "distilled"), ("slice", "distilled")}
    assert len(table) == 2 * len(ROWS)
    assert table.drop("distilled", level="method")[list(METRICS)].notna().all(axis=None)
    text = study.table("table1").with_suffix(".md").read_text()
    assert "| Distilled student | – | – |" in text and "nan" not in text
    words = study.table("significance").with_suffix(".md").read_text()
    assert "Nothing can be said, since a training failed: distilled student" in words and "nan" not in words
    tests = pd.read_csv(study.table("significance"))
    asked = tests.a.eq("distilled") | tests.b.eq("distilled")
    assert tests[asked].difference.isna().all() and tests[asked].p_people_holm.isna().all() and asked.sum() == 10
    assert (
        tests[~asked].difference.notna().all() and tests[~asked & tests.metric.eq("psnr")].p_people_holm.notna().all()
    )


def test_the_experiments_have_holes_where_they_belong(study):
    table = pd.read_csv(study.table("feature_losses_comparison")).set_index("method").psnr
    assert np.isnan(table[FAILED]) and table.drop(FAILED).notna().all()
    ablations = pd.read_csv(study.table("ablations_ablation")).set_index("method").psnr
    assert ablations.isna().any() and ablations["student"] > 0


def test_the_report_lists_what_failed(study, tmp_path):
    write_pages(study, tmp_path / "pages")
    page = (tmp_path / "pages" / "index.md").read_text()
    assert "nan" not in page.partition("## Trainings that failed")[0]
    assert "Trainings that failed" in page and "the loss is nan at step 4" in page


def test_nothing_is_deployed_and_the_notebook_says_so(study):
    quality = pd.read_csv(study.table(f"deployment_quality_{CELL.tag}"))
    assert set(quality["computed by"]) == {"PyTorch, float32"} | (
        {"PyTorch, bfloat16"} if cpu_has_bfloat16() else set()
    )
    assert quality.psnr.isna().all()
    with pytest.raises(StudyError, match=r"there is no network to export: .*the loss is nan at step 4"):
        export(RunFolder(study, study.methods(CELL, 0)["distilled"]), study.results / "x.onnx")


def test_what_is_there_still_follows_from_its_runs(study):
    assert verify_runs(study, ["03_distillation"]).wrong == []


def test_a_failed_run_is_not_trained_again_until_it_is_deleted(study):
    run = study.methods(CELL, 0)["attention_transfer"]
    record = RunFolder(study, run).path / "run.json"
    before = record.stat().st_mtime_ns
    assert trained(study, run).failed and record.stat().st_mtime_ns == before
