"""What figures of experiments are drawn from, and what they say."""

import numpy as np
import pandas as pd
import pytest

from kdmri_study import plots
from kdmri_study.plots import drawn, learning_curves, positions, sizes
from kdmri_study.profile import Study
from kdmri_study.recipes import PARTS, against_compute, cost, part_of
from kdmri_study.tables import Table, measured
from tests.studies import small_profile
from tests.unit.study.made import Made

STUDY = Study("smoke")
PAYS = {"notebook": "08_when_distillation_pays", "dataset": "cardiac", "undersampling": {"acceleration": 8}}


@pytest.fixture(scope="module")
def pays(tmp_path_factory):
    """A study of two seeds of `lengths`, `long` and `site`, of which nothing was trained."""
    path = tmp_path_factory.mktemp("pays") / "pays.yaml"
    experiments = {"pays": {**PAYS, "parts": ["lengths", "long", "site"]}}
    return Study(
        small_profile(path, steps=20, cardiac={"train": 4}, seeds=[0, 1], experiments=experiments), path.parent
    )


def found_of(study, part, **psnr):
    """A part as if measured, these rows of these test PSNR (dB) for every seed."""
    every = [study.experiment_rows("pays", part, seed) for seed in study.experiment_seeds("pays")]
    evidence = Made(study, {rows[name].run.id: value for rows in every for name, value in psnr.items()})
    return measured(evidence, "pays", part)


def test_a_curve_counts_the_stages_that_it_starts_from():
    rows = STUDY.experiment_rows("feature_losses", "comparison", 0)
    for name in ("student", "fitnets"):
        run = rows[name].run
        steps = run.schedule.steps
        compute = against_compute(run, pd.DataFrame({"step": [0, steps]})).compute
        first_stage = cost(run.start).given if run.start else 0
        assert compute.tolist() == pytest.approx([first_stage, cost(run).given])


def test_the_student_alone_for_longer_is_drawn_as_points_and_other_networks_controls_are_not(monkeypatch):
    shown = []
    monkeypatch.setattr(plots.figures, "learning_curves", lambda *given: shown.append(given))
    rows = {seed: STUDY.experiment_rows("super_resolution", "restoration", seed) for seed in (0, 1)}
    evidence = Made(STUDY)
    learning_curves(rows, evidence.of, "a title")
    ((curves, title, points),) = shown
    assert title == "a title" and all(len(seeds) == 2 for seeds in curves.values())
    assert list(curves) == ["Teacher", "Student", "Distilled student", "Distilled student, data consistency"]
    student = rows[0]["student"].run.network
    same = [n for n, row in rows[0].items() if row.run.teacher is None and row.run.network == student]
    final = {n: [float(evidence.of(rows[s][n].run).curve.validation_psnr[1]) for s in (0, 1)] for n in same}
    assert points == sorted((cost(rows[0][n].run).given, final[n]) for n in same) and len(points) == 4


def test_positions_are_differences_to_the_papers_choice():
    """As they are compared, where there is more than one person."""
    part = measured(Made(STUDY), "ablations", "positions")
    psnr = part.table.set_index("method").psnr
    found, chosen, value = positions(part)
    assert chosen == (3, 2) and value == psnr["T3_S2"] and len(found) == 8
    for place in found.itertuples():
        assert place.difference == pytest.approx(psnr[f"T{place.teacher}_S{place.student}"] - psnr["T3_S2"], abs=1e-9)
    tests = part.tests[(part.tests.metric == "psnr") & (part.tests.a == "T1_S1")].assign(low=0.2, high=0.4)
    alone = part._replace(tables=[part.tables[0], Table("ablations_positions_comparisons", tests, "")])
    found = positions(alone)[0].set_index(["teacher", "student"])
    assert found.loc[(1, 1), ["low", "high"]].tolist() == [0.2, 0.4] and np.isnan(found.low[1, 2])
    assert found.difference[1, 2] == pytest.approx(psnr["T1_S2"] - psnr["T3_S2"])


def test_sizes_stand_beside_the_teacher_and_themselves_alone_at_the_same_cost():
    part = measured(Made(STUDY), "ablations", "sizes")
    psnr, rows = part.table.set_index("method").psnr, part.rows[0]
    found, teacher = sizes(part)
    assert teacher == psnr.teacher and len(found) == sum(row.facts.get("how") == "distilled" for row in rows.values())
    row, name = found.iloc[0], next(n for n, row in rows.items() if row.facts.get("how") == "distilled")
    alone, control = name.replace("distilled", "alone"), rows[name].control
    assert (row.alone, row.distilled, row.alone_at_cost) == (psnr[alone], psnr[name], psnr[control])
    assert row.lead == pytest.approx(psnr[name] - psnr[control]) and np.isnan(row.low), "of one seed"
    # 2 cascades of 3 convolutions, 8 features: weights and biases.
    assert row.parameters == 2 * ((9 + 1) * 8 + (72 + 1) * 8 + 72 + 1)


def test_a_site_has_a_line_for_the_student_that_was_sent_at_all_its_sizes(pays):
    found = found_of(pays, "site", sent=24.0, truth_1=23.0)
    lines = plots._sites(found)
    name, points = next(iter(lines.items()))
    assert name == "truth where the teacher was, none here" and [psnr for _, psnr in points] == pytest.approx(
        [24.0] * 2
    )
    assert [x for x, _ in points] == [x for x, _ in lines["truth"]] == [1, 2]
    assert lines["truth"][0][1] == pytest.approx(23.0)


@pytest.mark.parametrize("name", sorted(name for name, part in PARTS.items() if part.figures))
def test_every_figure_of_a_part_is_drawn_with_its_title_and_how_many_seeds(pays, name):
    study, part = pays, part_of(name)
    if part.notebook != PAYS["notebook"]:
        study = STUDY
    experiment = next(e for e, declared in study.profile.experiments.items() if declared.notebook == part.notebook)
    evidence = Made(study)
    figures = dict(drawn(evidence, measured(evidence, experiment, name)))
    assert list(figures) == [f"{experiment}_{name}_{key}" for key in part.figures]
    for figure, words in zip(figures.values(), part.figures.values(), strict=True):
        axis = figure.axes[0]
        assert f": {words}" in f"{axis.get_title()}{figure.get_suptitle()}" and axis.get_xlabel()
        assert study is STUDY or axis.get_ylabel() == "test PSNR / dB (2 seeds)"
