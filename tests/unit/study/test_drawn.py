"""What figures of experiments are drawn from, and what their titles say."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from kdmri_lib.declarations import Degradation
from kdmri_study import drawn, notebook
from kdmri_study.costs import against_compute, cost
from kdmri_study.derived import Derived, Measured
from kdmri_study.evidence import piece
from kdmri_study.experiments.part import PARTS
from kdmri_study.jobs import jobs
from kdmri_study.study import Study
from tests.studies import PROFILES, with_downloads

STUDY = Study("smoke")


class Left:
    """A run folder with a curve."""

    def __init__(self, run, curve):
        self.run, self.curve = run, curve


def finished(rows, value=30.0):
    """Folders of rows, as if each had validated twice and ended with this PSNR."""
    steps = {name: row.run.schedule.total_steps(8) for name, row in rows.items()}
    curves = {n: pd.DataFrame({"step": [s // 2, s], "validation_psnr": [value - 1, value]}) for n, s in steps.items()}
    return {name: Left(row.run, curves[name]) for name, row in rows.items()}


def test_a_curve_counts_the_stages_that_it_starts_from():
    rows = STUDY.experiment_rows("feature_losses", "comparison", 0)
    for name in ("student", "fitnets"):
        run = rows[name].run
        steps = run.schedule.steps
        compute = against_compute(run, pd.DataFrame({"step": [0, steps]})).compute
        first_stage = cost(run.start).given if run.start else 0
        assert compute.tolist() == pytest.approx([first_stage, cost(run).given])


def test_the_student_alone_for_longer_is_drawn_as_points_and_other_networks_controls_are_not():
    rows = STUDY.experiment_rows("super_resolution", "restoration", 0)
    folders = {seed: finished(rows, 30.0 + seed) for seed in (0, 1)}
    curves, alone = drawn.curves(rows, folders)
    assert list(curves) == ["Teacher", "Student", "Distilled student", "Distilled student, data consistency"]
    assert all(len(seeds) == 2 for seeds in curves.values())
    same = [n for n, row in rows.items() if row.run.teacher is None and row.run.network == rows["student"].run.network]
    assert [c for c, _ in alone] == sorted(cost(rows[name].run).given for name in same)
    assert all(values == [30.0, 31.0] for _, values in alone) and len(alone) == 4


def tables(rows, psnr, pairs):
    """A table of test PSNR by row, and comparisons {(a, b): (difference, low, high)}."""
    table = pd.DataFrame([{"set": "test", "method": n, "psnr": psnr.get(n, 25.0)} for n in rows])
    table = pd.concat([table, table.assign(set="people", psnr=99.0)])
    tests = [
        {"set": s, "metric": m, "a": a, "b": b, "difference": d, "low": low, "high": high}
        for (a, b), (d, low, high) in pairs.items()
        for s, m in (("people", "psnr"), ("test", "ssim"), ("test", "psnr"))
    ]
    tests = pd.DataFrame(tests, columns=["set", "metric", "a", "b", "difference", "low", "high"])
    tests.loc[(tests.set != "test") | (tests.metric != "psnr"), "difference"] = 77.0
    return table, tests


def test_positions_are_differences_to_the_papers_choice():
    rows = STUDY.experiment_rows("ablations", "positions", 0)
    table, tests = tables(rows, {"T1_S1": 25.5, "T3_S2": 25.2}, {("T1_S1", "T3_S2"): (0.31, 0.2, 0.4)})
    found, chosen, value = drawn.positions(rows, table, tests, "T3_S2")
    assert chosen == (3, 2) and value == 25.2 and len(found) == 8
    found = found.set_index(["teacher", "student"])
    assert found.loc[(1, 1)].tolist() == [0.31, 0.2, 0.4]
    assert found.difference[1, 2] == pytest.approx(-0.2) and np.isnan(found.low[1, 2]), "of a single person"


def test_sizes_stand_beside_the_teacher_and_themselves_alone_at_the_same_cost():
    rows = STUDY.experiment_rows("ablations", "sizes", 0)
    name = next(name for name, row in rows.items() if row.facts.get("how") == "distilled")
    control = rows[name].control
    table, tests = tables(rows, {"teacher": 26.0, name: 25.4, control: 25.3}, {(name, control): (0.1, 0.0, 0.2)})
    found, teacher = drawn.sizes(rows, table, tests)
    assert teacher == 26.0
    row = found.iloc[0]
    assert (row.alone, row.distilled, row.alone_at_cost) == (25.0, 25.4, 25.3)
    assert (row.lead, row.low, row.high) == (0.1, 0.0, 0.2)
    # 2 cascades of 3 convolutions, 8 features: weights and biases.
    assert row.parameters == 2 * ((9 + 1) * 8 + (72 + 1) * 8 + 72 + 1)


@pytest.mark.parametrize("name", PROFILES)
def test_titles_say_what_in_words_and_no_two_are_the_same(name, tmp_path):
    study = Study(with_downloads(name, tmp_path))
    titles = [output.title for job in jobs(study) for output in job.outputs if output.kind != "report"]
    for title in titles:
        assert "_" not in title and not re.search(r"[0-9a-f]{8}", title), title
        assert title[0].isupper(), title
    drawn_titles = [o.title for job in jobs(study) for o in job.outputs if o.kind == "figure"]
    assert len(drawn_titles) == len(set(drawn_titles))


def test_masks_are_those_that_a_profile_uses():
    quick = Study("quick")
    factors = quick.profile.cells["brain"]
    assert [d.acceleration for d in quick.degradations("brain").values()] == list(factors)
    assert list(quick.degradations("brain")) == [f"Brain {factor:g}x" for factor in factors]
    assert list(quick.degradations("head")) == ["Head, 1∕4 of the resolution"]
    assert list(STUDY.degradations("cardiac")) == ["Cardiac phantom 8x", "Cardiac phantom 8x, points"]
    assert STUDY.setting("knee", Degradation(acceleration=5, seed=3)) == "Knee phantom 5x, mask drawn with seed 3"
    assert STUDY.setting("brain", Degradation(acceleration=4, mask="data/own.npy")) == "Brain 4x, mask own"


def test_figure_2_and_the_masks_of_several_data_sets_are_no_copies_of_those_of_one(tmp_path):
    several = {o.name for job in jobs(STUDY) for o in job.outputs}
    assert {"figure2", "masks", "reconstructions_knee_5x"} <= several
    one = {o.name for job in jobs(Study("evening")) for o in job.outputs}
    assert "reconstructions_cardiac_8x" in one and not {"figure2", "masks"} & one


def measured(part, rows, values):
    """A part as if measured: a table of these test PSNR (dB), costs of the declarations."""
    table = pd.DataFrame(
        [
            {
                **{"set": "test", "method": name, "psnr": values.get(name, 20.0)},
                **{"macs_given": cost(row.run).given, "macs_whole": cost(row.run).whole},
                "steps": row.run.schedule.steps,
            }
            for name, row in rows.items()
        ]
    )
    return Measured(part, PARTS.find(part), rows, None, {0: {}, 1: {}}, [Derived(part, table, "", [])])


def test_lengths_are_a_line_for_each_way_to_train_and_each_teachers_length():
    rows = Study("table1").experiment_rows("cardiac_lengths", "lengths", 0)  # controls are among them
    found = measured("lengths", rows, {"alone_2": 25.0, "best_2_16": 26.0})
    lines = drawn.lengths(found, "macs_given")
    assert "the paper's method, teacher of 1 stage" in lines
    assert len(lines) == 2 + 2 * 3 and [psnr for _, psnr in lines["student alone"]][:3] == [20.0, 25.0, 20.0]
    (first, *_) = lines["the best recipe, teacher of 16 stages"]
    assert first == (cost(rows["best_2_16"].run).given, 26.0)
    alone = dict(lines["student alone"])
    assert sorted(alone)[-1] == pytest.approx(32 * sorted(alone)[0])
    whole = drawn.lengths(found, "macs_whole")
    assert whole["student alone"] == lines["student alone"], "no teacher, nothing to count in"
    assert whole["the best recipe, teacher of 16 stages"][0][0] > first[0]


def test_a_cell_trained_long_is_drawn_by_its_steps():
    rows = Study("table1").experiment_rows("cardiac_long", "long", 0)
    found = measured("long", rows, {"alone_16": 25.0})
    lines = drawn.by_steps(found)
    assert [*lines] == ["student alone", "the best recipe, its teacher as long", "teacher"], "no controls"
    assert lines["student alone"] == [(2000, 20.0), (4000, 20.0), (8000, 20.0), (16000, 20.0), (32000, 25.0)]


def test_a_site_has_a_line_for_the_student_that_was_sent_at_all_its_sizes():
    rows = Study("table1").experiment_rows("cardiac_site", "site", 0)
    lines = drawn.subjects(measured("site", rows, {"sent": 24.0, "truth_1": 23.0}))
    name, points = next(iter(lines.items()))
    assert name == "truth where the teacher was, none here" and {psnr for _, psnr in points} == {24.0}
    assert [x for x, _ in points] == [x for x, _ in lines["truth"]] and lines["truth"][0] == (1, 23.0)


@pytest.mark.parametrize(
    ("experiment", "name"), [("cardiac_lengths", "lengths"), ("cardiac_site", "site"), ("cardiac_long", "long")]
)
def test_every_figure_of_a_part_has_its_title_its_axes_and_how_many_seeds(experiment, name):
    rows = Study("table1").experiment_rows(experiment, name, 0)
    figures = dict(drawn.drawn(measured(name, rows, {}), lambda figure: f"title of {figure}"))
    assert list(figures) == [f"{name}_{key}" for key in PARTS.find(name).figures]
    for figure_name, figure in figures.items():
        (axis,) = figure.axes
        assert axis.get_title() == f"title of {figure_name}"
        assert axis.get_ylabel() == "test PSNR / dB (2 seeds)" and axis.get_xlabel()


def test_every_figure_that_a_part_declares_can_be_drawn():
    assert {key for part in PARTS.all().values() for key in part.figures} == set(drawn.DRAWN)


def test_a_notebook_of_a_study_in_pieces_shows_its_evidence_and_trains_nothing(tmp_path, capsys, monkeypatch):
    """Of six seeds one is there."""
    shown = []
    monkeypatch.setattr(notebook, "display", shown.append)
    study = Study("table1", tmp_path)
    file = piece(study, "cardiac_site_seed0").file(study)
    file.parent.mkdir(parents=True)
    shutil.copy(piece(Study("table1"), file.name.partition(".")[0]).file(Study("table1")), file)
    here = notebook.Notebook("08_when_distillation_pays", "table1", str(tmp_path), experiment="cardiac_site")
    asked, absent = here.parts_in_words.splitlines()
    assert asked.endswith(" · site") and absent.endswith("so empty below: lengths, long, long_teacher, rates, recipes")
    here.draw(here.show("site"))
    assert "from the committed evidence: seed 0 of 6; nothing is trained" in capsys.readouterr().out
    assert not (study.results / "runs").exists() and not study.prepared("cardiac").exists()
    made, committed = (pd.read_csv(of.table("cardiac_site_site")) for of in (study, Study("table1")))
    assert set(made.seeds) == {1} and list(made.method) == list(committed.method)
    untrained = [table.query("method == 'zero_filled'").psnr.item() for table in (made, committed)]
    assert untrained[0] == pytest.approx(untrained[1]), "of which seeds are no matter"
    assert study.figure("cardiac_site_site_subjects").stat().st_size > 10_000
    assert "Teacher" in shown[0].data
