"""What the number blocks of README files say of tables made by hand."""

import numpy as np
import pandas as pd
import pytest

from kdmri_lib.errors import StudyError
from kdmri_study.blocks import BLOCKS
from kdmri_study.study import Study
from tests.unit.study.made import at_rates, long_teachers


def test_a_block_whose_table_is_not_there_is_named(tmp_path):
    study = Study("quick", tmp_path)
    with pytest.raises(StudyError, match=r"table1.csv: no such file, and numbers of README files are from it"):
        BLOCKS["table1"].write(study)


def test_what_is_not_there_is_a_dash_in_a_block(tmp_path):
    """A cell whose best recipe wasn't compared, since a training of it failed."""
    study, there = Study("table1", tmp_path), Study("table1")
    study.table("table1").parent.mkdir(parents=True)
    table, tests = (pd.read_csv(there.table(name)) for name in ("table1", "significance"))
    cell = (tests.dataset == "knee") & (tests.acceleration == 4)
    tests.loc[cell & (tests.a == "best"), ["difference", "low", "high"]] = np.nan
    tests = tests[~(cell & (tests.a == "he_distilled"))]
    for name, some in (("table1", table), ("significance", tests)):
        some.to_csv(study.table(name), index=False)
    line = next(line for line in BLOCKS["best"].write(study).splitlines() if line.startswith("| knee 4x"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert [cells[place] for place in (4, 5, 6)] == ["–"] * 3 and "–" not in (*cells[:4], *cells[7:])
    line = next(line for line in BLOCKS["initialised"].write(study).splitlines() if line.startswith("| knee 4x"))
    assert [cell.strip() for cell in line.strip("|").split("|")][5] == "–"
    line = next(line for line in BLOCKS["others"].write(study).splitlines() if line.startswith("| brain 5x, people"))
    assert line.count("[") == 3


def test_lengths_say_what_a_teacher_is_worth_by_its_length_and_the_students(tmp_path):
    study = Study("table1", tmp_path)
    psnr = {f"alone_{n}": 30 + n / 10 for n in (1, 2, 4, 8, 16, 32)} | {f"teacher_{t}": 30 + t / 4 for t in (1, 4, 16)}
    psnr |= {"best_2_16": 31.0, "longer": 30.5}
    table = pd.DataFrame({"method": psnr.keys(), "psnr": psnr.values()}).assign(set="test", control="", steps=500)
    table.loc[table.method == "best_2_16", "control"] = "longer"
    tests = pd.DataFrame(
        [{"a": "best_2_16", "b": "longer", "difference": 0.5, "low": 0.3, "high": 0.7, "seeds": 2, "people": 9}]
    ).assign(set="test", metric="psnr", kind="phantom", by_seed="0.4 0.6", verdict="better")
    study.table("x").parent.mkdir(parents=True)
    table.to_csv(study.table("cardiac_lengths_lengths"), index=False)
    tests.to_csv(study.table("cardiac_lengths_lengths_significance"), index=False)
    lines = BLOCKS["lengths"].write(study).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| cardiac")]
    assert [row[1:3] for row in rows] == [
        ["500", "30.10"],
        ["1,000", "30.20"],
        ["2,000", "30.40"],
        ["4,000", "30.80"],
        ["8,000", "31.60"],
    ]
    assert rows[1][3:] == ["–"] * 5 + ["+0.50 [+0.30, +0.70], 14%"], "half a dB of 34.0 - 30.5"
    assert all(row[3:] == ["–"] * 6 for n, row in enumerate(rows) if n != 1)
    assert lines[-1] == (
        "- cardiac 8x, 2 seeds, 9 phantoms: the teachers 30.25, 31.00, 34.00; alone for 16,000 steps 33.20"
    )


def test_a_cell_trained_long_says_what_each_doubling_brought(tmp_path):
    study = Study("table1", tmp_path)
    study.table("x").parent.mkdir(parents=True)
    steps = {n: 2000.0 * n for n in (1, 2, 4, 8, 16)}
    psnr = {f"alone_{n}": 25.0 + 0.1 * place for place, n in enumerate(steps)}
    psnr |= {f"best_{n}": 25.1 + 0.2 * place for place, n in enumerate(steps)}
    psnr |= {f"teacher_{n}": 26.0 + 0.3 * place for place, n in enumerate(steps)} | {"longer": 25.6, "best_8": np.nan}
    table = pd.DataFrame({"method": psnr.keys(), "psnr": psnr.values()}).assign(set="test")
    table["control"] = table.method.map({"best_16": "longer"})
    table["steps"] = [steps.get(int(name.partition("_")[2] or 0), 0) for name in table.method]
    tests = pd.DataFrame([("best_16", "longer", 0.3, 0.1, 0.5)], columns=["a", "b", "difference", "low", "high"])
    tests = tests.assign(set="test", metric="psnr", seeds=1, people=12, kind="phantom", by_seed="0.3", verdict="")
    table.to_csv(study.table("cardiac_long_long"), index=False)
    tests.to_csv(study.table("cardiac_long_long_significance"), index=False)
    lines = BLOCKS["long"].write(study).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| cardiac")]
    assert rows[0] == ["cardiac 8x", "2,000", "25.00", "25.10", "26.00", "–", "–"]
    assert rows[1] == ["cardiac 8x", "4,000", "25.10 (+0.10)", "25.30 (+0.20)", "26.30 (+0.30)", "–", "–"]
    assert rows[3][3] == "– (–)", "its training failed"
    assert rows[4] == [
        *("cardiac 8x", "32,000", "25.40 (+0.10)", "25.90 (–)", "27.20 (+0.30)", "+0.30 [+0.10, +0.50]", "19%"),
    ]
    assert lines[-1] == "Cardiac 8x, 1 seed, 12 phantoms. In brackets what the doubling brought."


def test_long_teachers_stand_beside_the_share_that_their_students_win_back(tmp_path):
    study = Study("table1", tmp_path)
    study.table("x").parent.mkdir(parents=True)
    with pytest.raises(StudyError, match="no table of part 'long_teacher'"):
        BLOCKS["long_teacher"].write(study)
    long_teachers(study)
    lines = BLOCKS["long_teacher"].write(study).splitlines()
    brain, knee = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:4])
    assert brain == [
        *("brain 4x", "+0.15 [0.00, +0.30]", "34.70", "34.00", "+0.20 [+0.05, +0.35]", "–"),
        *("+0.05 [−0.10, +0.20]", "+0.10 [−0.05, +0.25]", "17%"),
    ]
    assert knee[2:] == ["32.00", "31.50", "+0.50 [+0.35, +0.65]", "50%", "+0.40 [+0.25, +0.55]", "–", "–"]
    assert lines[5] == "Seeds: 1; brain 12 phantoms, knee 12 phantoms. The same on real people:"
    assert lines[-1] == "| brain 4x | −0.20 [0.00, +0.30] | −0.30 [+0.05, +0.35] | +0.40 [−0.05, +0.25] |"
    long_teachers(study, seeds=2)
    assert "| +0.20 [+0.05, +0.35] (+0.10 +0.30) | – |" in BLOCKS["long_teacher"].write(study), "too few for a spread"
    long_teachers(study, 4, "+0.1 +0.1 +0.2 +0.4")
    text = BLOCKS["long_teacher"].write(study)
    # Two cells of these four seeds: a standard deviation of 0.1414, six degrees of freedom, t = 2.447.
    assert "| +0.20 [+0.03, +0.37] (+0.10 +0.10 +0.20 +0.40) | – |" in text
    assert "| brain 4x | −0.20 [0.00, +0.30] (+0.10 +0.10 +0.20 +0.40) |" in text, "on real people: over them, too"


def test_each_at_the_rate_that_validation_prefers_and_not_the_one_that_the_test_set_would(tmp_path):
    study = Study("table1", tmp_path)
    study.table("x").parent.mkdir(parents=True)
    at_rates(study)
    lines = BLOCKS["rates"].write(study).splitlines()
    heart, knee = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:4])
    assert heart == [
        *("cardiac 8x", "25.60", "**25.50**", "25.40", "25.20", "25.30", "**25.15**"),
        *("+0.40 [+0.30, +0.50]", "+0.35"),
    ]
    assert knee == [
        *("knee 5x", "**31.60**", "31.50", "31.40", "31.10", "**31.20**", "–"),
        *("+0.50 [+0.40, +0.60]", "–"),
    ]
    assert lines[-1] == (
        "By a teacher of four stages, student and control each at the learning rate that their validation subjects prefer, "
        "the lead is – dB on the mean, above 0 in 1 of 1 cell; both at the profile's rate, of the same trainings, – dB on "
        "the mean, above 0 in 1."
    )


def test_ablations_are_a_row_each_from_the_lowest_to_the_highest(tmp_path):
    study = Study("table1", tmp_path)
    study.table("x").parent.mkdir(parents=True)
    methods = {
        "alone_2": ("", 25.0),
        "first": ("alone_2", 24.6),
        "last": ("alone_2", 25.2),
        "lost": ("alone_2", np.nan),
    }
    table = pd.DataFrame(
        [(name, f"The {name}", control or None, psnr) for name, (control, psnr) in methods.items()],
        columns=["method", "label", "control", "psnr"],
    )
    tests = pd.DataFrame(
        [
            ("first", "alone_2", -0.4, -0.5, -0.3),
            ("last", "alone_2", 0.2, -0.1, 0.5),
            ("last", "first", 9.0, 8.0, 10.0),
        ],
        columns=["a", "b", "difference", "low", "high"],
    ).assign(metric="psnr", seeds=1, people=12, kind="phantom")
    table.assign(set="test").to_csv(study.table("ablations_cascades"), index=False)
    tests.assign(set="test").to_csv(study.table("ablations_cascades_significance"), index=False)
    _, _, row, *rest = BLOCKS["ablations"].write(study).splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        *("Attention transfer in which cascades", "2", "24.60, The first", "25.20, The last"),
        *("−0.40 [−0.50, −0.30], The first", "+0.20 [−0.10, +0.50], The last", "0, 1 of 2"),
    ]
    assert rest == ["", "Cardiac 8x, 1 seed, 12 phantoms."]
