"""The study's answer, by tables made by hand."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdmri_study.answer import (
    COMPARED,
    answer_markdown,
    found_by,
    lead_at_own_rates,
    long_teacher_markdown,
    rates_in_words,
    site_markdown,
)
from kdmri_study.in_short import in_short
from kdmri_study.study import Study
from tests.unit.study.made import at_rates, long_teachers, sites


def of_seeds(mean, count):
    """Differences of seeds as a table has them: all of their mean's sign, but where it is nearly 0."""
    spread = 1.0 if abs(mean) < 0.01 else 0.5 * abs(mean)
    return " ".join(f"{mean + spread * step:+.4f}" for step in np.linspace(-1, 1, count))


def answers(seeds):
    """Table 1, comparisons and people of two cells, of so many seeds each."""
    cells = [("test", "brain", 4, seeds[0], 12), ("test", "knee", 4, seeds[1], 8)]
    said = {
        ("distilled", "student_compute"): [(-0.31, -0.4, -0.2), (0.02, -0.1, 0.1)],
        ("he_distilled", "he_compute"): [(0.2, 0.1, 0.3), (0.1, 0.05, 0.2)],
        ("best", "best_compute"): [(0.25, 0.1, 0.4), (-0.1, -0.3, 0.1)],
        ("best_teacher", "best_compute"): [(0.5, 0.1, 0.4), (1.0, 0.1, 0.4)],
        ("best", "teacher"): [(0.001, -0.1, 0.1), (0.3, 0.2, 0.4)],
        ("best_compute", "teacher"): [(-0.1, -0.2, -0.05), (-0.3, -0.4, -0.2)],
        ("he_student", "student"): [(0.4, 0.3, 0.5), (0.9, 0.8, 1.0)],
        ("best", "he_teacher"): [(-0.2, -0.3, -0.1), (-0.2, -0.3, -0.1)],
    }
    rows = [
        (name, dataset, factor, a, b, *values, count, people, of_seeds(values[0], count))
        for (a, b), both in said.items()
        for (name, dataset, factor, count, people), values in zip(cells, both, strict=True)
    ]
    rows += [("people", "brain", 4, "best", "best_compute", 0.3, -0.1, 0.7, seeds[0], 2, of_seeds(0.3, seeds[0]))]
    columns = ["set", "dataset", "acceleration", "a", "b", "difference", "low", "high", "seeds", "people", "by_seed"]
    tests = pd.DataFrame(rows, columns=columns).assign(metric="psnr")
    psnr = {
        "zero_filled": (20, 20),
        "student": (30, 30),
        "distilled": (31, 33),
        "teacher": (32, 32),
        "best": (30, 31),
        "best_compute": (34, 32),
    }
    kinds = {"brain": "virtual subject", "knee": "phantom"}
    table = [(d, kinds[d], 4, m, v) for m, both in psnr.items() for d, v in zip(kinds, both, strict=True)]
    table = pd.DataFrame(table, columns=["dataset", "kind", "acceleration", "method", "psnr"])
    people = {
        "person": ["anna", "bert"],
        "best": [30.0, 25.5],
        "best_compute": [29.0, 30.5],
        "zero_filled": [25.0, 26.0],
    }
    return (
        table.assign(set="test", aggregation="volume"),
        tests,
        pd.DataFrame(people).assign(dataset="brain", acceleration=4),
    )


def rows_of(markdown):
    """The cells of a Markdown table's rows by their first cell."""
    lines = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in lines}


def test_the_answer_counts_cells_by_their_intervals_and_by_their_common_spread():
    # By common spread as statsmodels has it (`OLS` with a mean per cell, `conf_int`).
    text = answer_markdown(Study("table1"), *answers((6, 3)))
    assert "(virtual subjects and phantoms) of 2 of 9 cells, 3 to 6 of 6 seeds; " in text.splitlines()[0]
    assert "a cell's 95% interval, over seeds and people, lies above or below 0" in text.splitlines()[0]
    rows = rows_of(text)
    assert rows["the student"][-1] == "real people, brain 4x" and len(rows) == 2 + 7
    mean, *rest = rows[COMPARED["distilled", "student_compute"]]
    assert rest == ["−0.31, +0.02", "0, 1 of 2", "0, 1 of 2", "–"]
    mean, low, high = map(float, re.findall(r"[+-][\d.]+", mean.replace("−", "-")))
    half = stats.t.ppf(0.975, 1) * abs(-0.31 - 0.02) / 2  # of two values, by hand
    assert mean == pytest.approx(-0.145, abs=0.01)
    assert (high - mean, mean - low) == (pytest.approx(half, rel=0.05), pytest.approx(half, rel=0.05))
    assert rows[COMPARED["he_distilled", "he_compute"]][1:4] == ["+0.10, +0.20", "2, 0 of 2", "2, 0 of 2"]
    assert rows[COMPARED["best", "best_compute"]][1:] == ["−0.10, +0.25", "1, 0 of 2", "1, 0 of 2", "+0.30"], (
        "[+0.17, +0.33], [−0.21, +0.01]"
    )
    assert rows[COMPARED["best", "teacher"]][1:4:2] == ["0.00, +0.30", "0, 0 of 2"], "seeds that differ in sign"
    assert rows[COMPARED["best", "he_teacher"]][1:4] == ["−0.20", "0, 2 of 2", "0, 2 of 2"]
    *_, share, best, order, lost = text.splitlines()
    assert share.endswith("the best recipe wins back −10% to 50%, a third or more in 1 of 2 cells.")
    assert best.endswith("had no teacher in 1 of 2 cells."), "33 dB distilled, 35 dB alone"
    assert order.endswith("comes out in 1 of 2 cells.")
    table, *rest = answers((6, 3))
    both = answer_markdown(Study("table1"), pd.concat([table, table.iloc[1::2].assign(set="people")]), *rest)
    assert "comes out in 1 of 2 cells; on the real people in 0 of 1." in both, "the second cell's are level"
    assert lost == (
        "Further from the truth than no network: best recipe's student for bert at 4x, 25.50 dB (alone 30.50, zero-filled "
        "26.00)."
    )


def test_the_answer_says_what_one_seed_can_and_leaves_out_what_is_not_there():
    table, tests, _ = answers((1, 1))
    tests.loc[(tests.a == "distilled") & (tests.dataset == "knee"), ["difference", "low", "high"]] = np.nan
    table.loc[(table.method == "distilled") & (table.dataset == "knee"), "psnr"] = np.nan
    text = answer_markdown(Study("table1"), table, tests[(tests.a == "distilled") & (tests.set == "test")])
    assert "1 of 6 seeds; " in text and "a cell's 95% interval, over people, for these networks, lies" in text
    rows = rows_of(text)
    assert len(rows) == 2 + 1
    assert rows[COMPARED["distilled", "student_compute"]] == ["–", "−0.31", "0, 1 of 1", "–"]
    assert "best recipe" not in text and "real people" not in text
    assert "comes out in 1 of 1 cells" in text, "of a cell whose training failed nothing is known"
    assert "Nothing can be said" in answer_markdown(Study("table1"), table, tests[:0])
    _, tests, _ = answers((1, 3))
    mixed = answer_markdown(Study("table1"), table, tests)
    assert "over seeds and people, of one seed over people, for its networks alone, lies" in mixed
    assert rows_of(mixed)[COMPARED["he_student", "student"]][3] == "–", "two degrees of freedom"


def test_what_a_teacher_is_worth_to_a_site_is_said_of_the_most_subjects(tmp_path):
    study = Study("table1", tmp_path)
    study.table("x").parent.mkdir(parents=True)
    assert site_markdown(found_by(study, "site")) == ""
    sites(study)
    text = site_markdown(found_by(study, "site"))
    assert text.startswith(
        "Where a site has no fully sampled scans (brain 4x of 1 seed, knee 4x of 3 seeds), and a student "
    )
    rows = {first.rpartition("against ")[2]: rest for first, rest in rows_of(text).items() if "taught there" in first}
    assert rows["the truth of as many subjects"][1:] == ["−0.16, +0.10", "1, 1 of 2", "–"]
    assert rows["the truth of a quarter of them"][:3] == ["–", "+0.28", "1, 0 of 1"]
    assert rows["the one that was trained where the teacher was"][1] == "+0.03, +0.20"
    far = {first: rest for first, rest in rows_of(text).items() if "another contrast or organ" in first}
    assert [rest[1:3] for rest in far.values()] == [["−2.00, +0.20", "1, 1 of 2"]]


def test_what_a_long_teacher_is_worth_is_said_of_each_student_and_of_real_people(tmp_path):
    study = Study("table1", tmp_path)
    study.table("x").parent.mkdir(parents=True)
    assert long_teacher_markdown(found_by(study, "long_teacher"), found_by(study, "long_teacher", "people")) == ""
    long_teachers(study)
    found, people = found_by(study, "long_teacher"), found_by(study, "long_teacher", "people")
    assert [of.setting for of in found] == ["brain 4x", "knee 5x"]
    assert [of.setting for of in people] == ["brain 4x"], "the knee has no real people"
    text = long_teacher_markdown(found, people)
    assert text.startswith("By a teacher of four stages, that recipe's having two (2 cells, 1 of its seeds):")
    usual, best, both = (rest for first, rest in rows_of(text).items() if "against alone" in first)
    assert usual[1:3] == ["+0.10, +0.15", "0, 0 of 2"] and usual[4] == "−0.20"
    assert best[1:3] == ["+0.20, +0.50", "2, 0 of 2"] and best[4] == "−0.30"
    assert both == ["–", "+0.10", "0, 0 of 1", "–", "+0.40"], "of the cell whose training didn't fail"
    # Of 34.7 - 34.0 dB the first loses nothing, of 32.0 - 31.0 half a dB; the second wins 0.1 of 34.7 - 34.1.
    assert "the second row's student wins back 0% to 50%, a third or more in 1 of 2 cells; the third row's 17%" in text


def test_what_is_left_of_a_lead_at_own_rates_is_of_the_cells_whose_trainings_all_went_well(tmp_path):
    study, (table, tests, _) = Study("table1", tmp_path), answers((6, 3))
    study.table("x").parent.mkdir(parents=True)
    assert rates_in_words([]) == ""
    at_rates(study)
    heart, knee = found_by(study, "rates")
    assert rates_in_words([knee]) == "" and lead_at_own_rates(heart) == pytest.approx(25.5 - 25.15)
    knee.table.loc["alone_4", ["validation", "psnr"]] = 31.8, 31.35
    # The knee: 31.6 - 31.35, and at the usual rate 31.6 - 31.1. Over two cells: 12.71 standard errors on each side.
    said = (
        "the lead is +0.30 [−0.34, +0.94] dB on the mean, above 0 in 2 of 2 cells; both at the profile's rate, of the "
    )
    assert said + "same trainings, +0.45 [−0.19, +1.09] dB on the mean, above 0 in 2." in rates_in_words([heart, knee])
    assert rates_in_words([heart]) in in_short(study, table.assign(macs_given=2e12), tests)


def test_in_short_it_is_a_row_for_each_way_to_distil_and_what_it_costs(tmp_path):
    study, (table, tests, _) = Study("table1", tmp_path), answers((6, 3))
    study.table("x").parent.mkdir(parents=True)
    spent = {"distilled": (5e12, 9e12), "best": (4e12, 4e12)}
    order = table.groupby("method").cumcount()
    macs = [spent.get(method, (0, 0))[cell] for method, cell in zip(table.method, order, strict=True)]
    table = table.assign(macs_given=macs)
    rows = rows_of(in_short(study, table, tests))
    assert [*rows][2:] == [
        "the paper's method, against alone for as much compute",
        "the paper's method, both well initialised, against alone for as much compute",
        "the best recipe found here, teacher of two stages, against alone for as much compute",
    ]
    published, well, best = list(rows.values())[2:]
    assert published[-2:] == ["3 to 6", "5.0 to 9.0"] and published[2:4] == ["–", "–"]
    assert published[1] == "1 of 2 cells; interval above in 0, below in 1"
    assert published[0].startswith("−0.14 [") and well[1] == "2 of 2 cells; interval above in 2, below in 0"
    assert best[2:4] == ["−10% to 50%", "+0.30"] and best[-1] == "4.0"
    text = in_short(study, table, tests)
    assert "In the paper 25% to 68% of the teacher's lead are won back." in text
    assert "brings the student +0.65 [" in text and "more than 0 in 2 of 2 cells" in text
    assert in_short(study, table, tests[tests.a == "teacher"]) == ""
    assert in_short(study, table[:0], tests[:0]) == ""
    long_teachers(study)
    rows = rows_of(in_short(study, table, tests))
    assert rows["the same, teacher of four stages"][1:4] == [
        "2 of 2 cells",
        "0% to 50%",
        "−0.30",
    ]
    assert rows["the same, with attention transfer for a fifth of the time"][:4] == [
        "+0.10 [−0.05, +0.25]",
        "1 of 1 cell",
        "17%",
        "+0.40",
    ]


def test_in_short_the_papers_own_comparison_stands_first_and_a_site_last(tmp_path):
    study, (table, tests, _) = Study("table1", tmp_path), answers((6, 3))
    study.table("x").parent.mkdir(parents=True)
    table, of_student = table.assign(macs_given=5e12), tests[(tests.a == "distilled") & (tests.b == "student_compute")]
    of_seeds_each = {"difference": [0.4, 0.6], "by_seed": ["+0.5 +0.3", "+1.3 -0.1"]}
    tests = pd.concat([tests, of_student.assign(b="student", **of_seeds_each)])
    first, rest = next(iter(list(rows_of(in_short(study, table, tests)).items())[2:]))
    assert first == "the paper's method, against alone for one stage (the paper's comparison)"
    assert rest[0].startswith("+0.50 [") and rest[1] == "2 of 2 cells; interval above in 0, below in 0"
    assert rest[2] == "50% to 150%", "1 and 3 of 2 dB"
    assert "site" not in in_short(study, table, tests)
    sites(study)
    assert in_short(study, table, tests).endswith(
        "At a site without fully sampled scans, a teacher's images of undersampled scans, against the truth of as many "
        "subjects: brain 4x −0.16 [−0.27, −0.06] dB (8 subjects, 1 seed), knee 4x +0.10 [+0.05, +0.50] dB (8 subjects, 3 "
        "seeds).\n"
    )
    path = study.table("brain_site_site_significance")
    pd.read_csv(path).assign(difference=np.nan).to_csv(path, index=False)
    assert "as many subjects: knee 4x" in in_short(study, table, tests), "the brain's trainings failed"
