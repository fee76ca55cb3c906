"""Tables for reading, and which there are."""

import numpy as np
import pandas as pd
import pytest

from kdmri_study import notebook
from kdmri_study.profile import Study
from kdmri_study.recipes import Row, cost, part_of
from kdmri_study.tables import all_tables, markdown, people_text, shown, table1_text
from tests.studies import SETTING
from tests.unit.study.made import PEOPLE, Made

SMOKE = Study("smoke")


def test_a_table_is_shown_with_units_deviations_intervals_and_dashes():
    table = pd.DataFrame(
        {
            **{"method": ["distilled", "mine"], "psnr": [33.456, np.nan], "psnr_sd": [1.2, np.nan]},
            **{
                "macs_given": [1.25e12, np.nan],
                "difference": [0.126, -0.3],
                "low": [0.05, np.nan],
                "high": [0.2, np.nan],
            },
            "control": ["student_compute", ""],
        }
    )
    found = shown(table, "method", "psnr", "macs_given", "difference", "control")
    assert found.iloc[0].tolist() == [
        *("Distilled student", "33.46 ± 1.20", "1.25", "+0.13 [+0.05, +0.20]"),
        "Student alone, the distilled one's compute",
    ]
    assert found.iloc[1].tolist() == ["mine", "–", "–", "-0.30", ""]
    head, marks, *rows = markdown(table, "method", "psnr").splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["method", "PSNR / dB"]
    assert marks.startswith("|:-") and marks.endswith("-:|") and len(rows) == 2


@pytest.fixture(scope="module")
def tables():
    """Every table of Table 1 of profile smoke, of which nothing was trained."""
    return {table.name: table for table in all_tables(Made(SMOKE), [])}


def line(text: str, label: str) -> list[str]:
    found = next(line for line in text.splitlines() if line.startswith(f"| {label} "))
    return [cell.strip() for cell in found.strip("|").split("|")][1:]


def test_table_1_shows_the_papers_numbers_beside_ours_on_the_test_set_and_costs(tables):
    frame = tables["table1"].frame
    text = table1_text(frame[(frame.dataset == "brain") & (frame.aggregation == "volume")], "profile x")
    assert "**brain, set “test”: phantom, per volume; n = 7; seeds: 1**" in text and "of other images" in text
    own = frame[(frame.dataset == "brain") & (frame.aggregation == "volume")].set_index("method").loc["distilled"]
    assert line(text, "Distilled student") == [f"{own.psnr:.2f} ± {own.psnr_sd:.2f}", "0.9000 ± 0.0000",
                                               "39.80 ± 1.89 / 0.9770 ± 0.0000"]  # fmt: skip
    spent = cost(SMOKE.rows(SMOKE.setting("brain_4x"), 0)["distilled"].run)
    costs = next(line for line in text.splitlines() if line.startswith("| brain ") and "Distilled student " in line)
    assert [cell.strip() for cell in costs.strip("|").split("|")][2:] == [
        *("12", f"{spent.given / 1e12:.3g}", f"{spent.whole / 1e12:.3g}", "120"),
    ]


def test_the_knee_stands_per_slice_as_published_and_per_volume_beside(tables):
    text = tables["table1"].text
    blocks = text.split("**knee")[1:]
    assert blocks[0].startswith(", set “test”: phantom, per volume") and "the paper's" not in blocks[0]
    assert (
        blocks[1].startswith(f", set “test”: phantom, per slice; n = {2 * PEOPLE}") and "5x, the paper's" in blocks[1]
    )
    assert "per slice" not in text.split("**knee")[0]


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
