"""Tables for reading, parts of experiments as notebooks show them; rows that stand in a cell are the study's."""

import ast
import json

import pandas as pd
import pytest

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study import notebook
from kdmri_study.profile import Study
from kdmri_study.recipes import PARTS, Part, Row, cost, part_of
from kdmri_study.tables import Measured, Table, beside_baselines, people_text
from tests.studies import LARGE, SETTING
from tests.unit.study.made import Made

STUDY = Study(LARGE)
# Of each notebook an experiment that asks for the parts whose rows stand in its cells.
EXPERIMENTS = {
    "04_feature_distillation": "feature_losses",
    "05_ablations": "ablations",
    "06_super_resolution": "super_resolution",
    "08_when_distillation_pays": "recipes",
}


def functions(name: str) -> dict:
    """The functions that a notebook's cells define, by name."""
    cells = json.loads((PROJECT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    nodes = [n for c in cells if c["cell_type"] == "code" for n in ast.parse("".join(c["source"])).body]
    kept = [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom | ast.FunctionDef)]
    found = {"options": {}}  # as the cells stand
    exec(compile(ast.Module(kept, []), name, "exec"), found)
    return {n.name: found[n.name] for n in kept if isinstance(n, ast.FunctionDef)}


@pytest.mark.parametrize(("name", "experiment"), EXPERIMENTS.items())
def test_rows_that_stand_in_a_cell_are_the_study_s(name, experiment):
    """Else a notebook trains for hours what evidence holds."""
    recipe, known = STUDY.experiment_recipe(experiment, 0), 0
    for rows in (each for key, each in functions(name).items() if key in PARTS):
        theirs = {row.run.id: row.label for row in part_of(rows.__name__).rows(recipe).values()}
        for key, row in rows(recipe).items():
            assert row.run.id in theirs, f"{rows.__name__}: {key}"
        known += 1
    assert known >= 1


def made(seeds: int) -> Measured:
    """A student taught by a teacher, its baseline, and a row that no teacher helped; 1 dB apart."""
    run = STUDY.recipe(STUDY.setting("brain_4x"), 0).student
    rows = {
        "student": Row("Student", run),
        "taught": Row("Taught", run, {}, "longer"),
        "longer": Row("No teacher, 2 stages", run, {"longer": True}),
    }
    table = pd.DataFrame(
        {
            "method": ["zero_filled", "student", "taught", "longer"],
            "label": ["Zero-filled", "Student", "Taught", "No teacher, 2 stages"],
            "set": "test",
            "psnr": [20.0, 31.0, 33.0, 32.0],
            "psnr_sd": [1.0, 1.0, 1.0, 1.0],
            "macs_given": [float("nan"), 1e12, 2e12, 2e12],
            "control": ["", "", "longer", ""],
        }
    )
    asked = {"set": ["test"], "metric": ["psnr"], "a": ["taught"], "b": ["longer"]}
    low, high, by_seed = (0.5, 1.5, " ".join(["+1.0012"] * seeds)) if seeds > 1 else (float("nan"),) * 2 + ("+1.0012",)
    tests = pd.DataFrame({**asked, "difference": 1.0, "low": low, "high": high, "by_seed": by_seed})
    part = Part("mine", "", "", lambda recipe: rows, None)
    tables = [Table("x_mine", table, ""), Table("x_mine_comparisons", tests, "")]
    return Measured("x_mine", part, dict.fromkeys(range(seeds), rows), None, tables)


def test_one_seed_is_shown_beside_its_baseline_without_an_interval():
    found = beside_baselines(made(1), "student")
    assert found.index.tolist() == ["Zero-filled", "Student", "Taught"], "the baseline is a column"
    assert found.loc["Taught"].tolist() == ["33.00 ± 1.00", "2", "32.00", "+1.00", "+2.00"]
    assert found.loc["Student"].tolist() == ["31.00 ± 1.00", "1", "–", "–", "–"]
    assert found.columns[-1] == "ΔPSNR to “Student” / dB"


def test_six_seeds_are_shown_with_an_interval_and_each():
    found = beside_baselines(made(6))
    assert found["ΔPSNR / dB"]["Taught"] == "+1.00 [+0.50, +1.50]"
    assert found["each seed / dB"].tolist() == ["–", "–", " ".join(["+1.00"] * 6)]


def test_a_part_that_an_experiment_does_not_ask_for_is_named_and_not_trained(capsys):
    assert notebook.experiment_part(STUDY, "recipes", part_of("site").rows) is None
    assert capsys.readouterr().out == f"experiment 'recipes' of profile {LARGE} doesn't ask for 'site'\n"


def test_weights_are_not_trained_where_evidence_alone_is_here(monkeypatch, capsys):
    run = STUDY.recipe(STUDY.setting("brain_4x"), 0).student
    monkeypatch.setattr(notebook, "_evidence", lambda study: type("Known", (), {"of": staticmethod(lambda run: 1)}))
    monkeypatch.setattr(notebook.RunFolder, "ended", False)
    assert not notebook.has_weights(STUDY, {"student": Row("Student", run)})
    assert "only evidence is here" in capsys.readouterr().out


def test_what_needs_networks_of_which_evidence_alone_is_here_is_refused(study, monkeypatch):
    """Else a cell of a profile of evidence would train them again, for hours."""
    recipe = study.recipe(study.setting("cardiac_8x"), 0)
    rows = {"other": Row("Distilled, α = 0.9", recipe.distilled(None, alpha=0.9))}
    known = type("Known", (), {"of": staticmethod(lambda run: run.id == recipe.teacher.id)})
    monkeypatch.setattr(notebook, "_evidence", lambda study: known)
    with pytest.raises(StudyError, match=r"'Distilled, α = 0.9' needs networks; only evidence is here, no weights"):
        notebook.train(study, rows)
    assert not study.results.exists()


def test_people_below_zero_filled_are_bold():
    people = pd.DataFrame({"person": ["bert", "colin27"], "zero_filled": [26.0, 25.0], "best": [25.5, 27.0]})
    text = people_text(people.assign(dataset="brain", acceleration=4.0))
    assert "**25.50**" in text and "**27.00**" not in text and text.count("**") == 2


def test_a_loss_of_ones_own_has_tables_under_its_own_name_and_leaves_the_studys(study, monkeypatch):
    """As notebook 4 adds one: a function of a name that no part has, whose rows are trained and in nobody's evidence."""
    monkeypatch.setattr(notebook, "_evidence", Made)
    monkeypatch.setattr(notebook, "train", lambda *_, weights: asked.append(weights))
    asked = []

    def with_my_loss(recipe):
        return {"student": Row("Student", recipe.student), "mine": Row("Mine", recipe.distilled(recipe.pretrained()))}

    own = notebook.experiment_part(study, "feature_losses", with_my_loss)
    usual = notebook.experiment_part(study, "feature_losses", part_of("comparison").rows)
    assert [table.name for table in usual.tables] == [f"feature_losses_comparison{end}" for end in ("", "_comparisons")]
    assert [table.name for table in own.tables] == [f"feature_losses_with_my_loss{end}" for end in ("", "_comparisons")]
    assert "mine" in set(own.table.method) and own.rows[0]["mine"].control in own.rows[0]
    assert asked == [True], "trained again where its source has changed; the study's is in evidence"

    def comparison(recipe):
        return part_of("comparison").rows(recipe.with_options(features=4))

    changed = notebook.experiment_part(study, "feature_losses", comparison)
    assert changed.name == "feature_losses_comparison_changed", "a part that a reader changed leaves the study's too"
    assert changed.part.figures.keys() == part_of("comparison").figures.keys() and asked == [True, True]


def test_rows_in_a_notebook_stand_beside_their_controls_and_are_trained_by_nobody(finished_study):
    before, rows = sorted(finished_study.results.rglob("*")), finished_study.rows(SETTING, 0)
    table, tests = notebook.compared(finished_study, rows)
    assert sorted(finished_study.results.rglob("*")) == before
    found = table.query("set == 'test'").set_index("method")
    for name, row in rows.items():
        costs = found.loc[name, ["steps", "macs_given", "macs_whole"]]
        assert tuple(costs) == cost(row.run) and found.label[name] == row.label
    psnr = found.psnr
    row = tests[(tests.metric == "psnr") & (tests.set == "test")].iloc[0]
    assert (row.a, row.b) == ("distilled", "student_compute") and len(tests) == 2
    assert row.difference == pytest.approx(psnr.distilled - psnr.student_compute)
