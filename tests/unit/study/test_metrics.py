"""Metrics joined: methods without training are measured once, again when what they depend on changed, and travel."""

import numpy as np
import pandas as pd
import pytest

from kdmri_lib.datasets.prepared import read_prepared
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import METRICS, evaluate
from kdmri_study import metrics
from kdmri_study.build import declared_operator
from kdmri_study.metrics import costs_table, joined_metrics, untrained, untrained_folder
from kdmri_study.runs import trained
from kdmri_study.study import Study
from tests.studies import CELL


@pytest.fixture
def measured(monkeypatch):
    """How often anything was measured."""
    calls = []
    monkeypatch.setattr(metrics, "evaluate", lambda *a: calls.append(a[0]) or evaluate(*a))
    return calls


def test_zero_filling_is_measured_once_and_again_when_its_mask_changed(study, measured):
    recipe = study.recipe(CELL, 0)
    volumes, slices = untrained(study, recipe, "zero_filled")
    expected, _ = evaluate(None, declared_operator(recipe), read_prepared(study.prepared("cardiac"), "test"))
    np.testing.assert_allclose(volumes[list(METRICS)], expected[list(METRICS)], rtol=1e-12)
    assert len(slices) == volumes.slices.sum() and len(measured) == 1
    pd.testing.assert_frame_equal(untrained(study, recipe, "zero_filled")[0], volumes)
    assert len(measured) == 1
    other = recipe.changed(degradation=recipe.degradation.model_copy(update={"seed": 5}))
    assert untrained(study, other, "zero_filled")[0].psnr.tolist() != volumes.psnr.tolist() and len(measured) == 2
    about = untrained_folder(study, recipe.dataset, recipe.degradation, "zero_filled") / "inputs.json"
    about.write_text(about.read_text().replace('"code": "', '"code": "x'))
    untrained(study, recipe, "zero_filled")
    assert len(measured) == 3


def test_where_there_are_no_images_metrics_are_taken_as_they_are_or_missed(study, tmp_path, measured):
    recipe = study.recipe(CELL, 0)
    volumes, _ = untrained(study, recipe, "zero_filled")
    there = Study("smoke", tmp_path / "elsewhere")
    with pytest.raises(StudyError, match=r"zero_filled-\w+: no metrics of zero_filled, and no prepared images"):
        untrained(there, recipe, "zero_filled")
    there.results.mkdir(parents=True)
    (there.results / "untrained").symlink_to(study.results / "untrained")
    pd.testing.assert_frame_equal(untrained(there, recipe, "zero_filled")[0], volumes)
    assert len(measured) == 1


def test_rows_and_methods_without_training_are_joined_and_costed(study):
    rows = {seed: {"student": study.rows(CELL, seed)["student"]} for seed in (0, 1)}
    folders = {seed: {"student": trained(study, named["student"].run)} for seed, named in rows.items()}
    found = joined_metrics(study, study.recipe(CELL, 0), folders, ["zero_filled"])
    volumes = found["volumes"]
    assert sorted(volumes.groupby(["method", "seed"]).size().index) == [
        ("student", 0),
        ("student", 1),
        ("zero_filled", -1),
    ]
    assert set(volumes.dataset) == {"cardiac"} and set(volumes.acceleration) == {8.0}
    assert volumes[volumes.seed == 1].psnr.tolist() == folders[1]["student"].volumes.psnr.tolist()
    costs = costs_table(study, rows)
    taken = np.mean([folder["student"].record["seconds"] for folder in folders.values()])
    assert costs.seconds["student"] == pytest.approx(taken) and costs.steps["student"] == 6
