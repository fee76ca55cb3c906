"""Tables from metrics: what is averaged over what, what is tested in which family, and what is said."""

import numpy as np
import pandas as pd
import pytest

from kdmri_lib.masks import mirrored
from kdmri_lib.statistics import holm
from kdmri_study.answer import answer_table
from kdmri_study.experiments import table1
from kdmri_study.rendering import (
    domains_markdown,
    experiment_markdown,
    number,
    order_in_words,
    people_markdown,
    plain_markdown,
    share_of_lead,
    significance_markdown,
    table1_markdown,
    value,
)
from kdmri_study.tables import beside_each_other, crossings, each_person, significance, summary, symmetry

PEOPLE = 7
LEADS = np.linspace(-0.02, 0.02, PEOPLE)  # how people differ in what a method gains


def metrics(values, sets=("test",), seeds=(0, 1), dataset="brain", factor=4.0):
    """Volumes of seven people, the first of whom has two that differ by 2 dB; method by PSNR, a seed 0.2 above the last."""
    rows = [
        {"dataset": dataset, "acceleration": factor, "set": s, "kind": "phantom", "method": m, "run": "r",
         "seed": -1 if m == "zero_filled" else seed, "person": f"p{n}", "subject": f"p{n}{part}",
         "psnr": value + n + {"": 0, "a": -1, "b": 1}[part] + (0.2 * seed - 0.1 + 0.01 * value * LEADS[n]
                                                              if m != "zero_filled" else 0),
         "ssim": 0.9, "nmse": 0.1, "hfe": 0.1}
        for s in sets for m, value in values.items() for seed in (seeds if m != "zero_filled" else (0,))
        for n in range(PEOPLE) for part in (("a", "b") if n == 0 else ("",))
    ]  # fmt: skip
    return pd.DataFrame(rows)


VALUES = {
    "zero_filled": 20,
    "teacher": 32,
    "student": 30,
    "student_steps": 30.7,
    "student_compute": 31,
    "student_whole": 31.5,
    "distilled": 30.5,
}
QUESTIONS = [(a, b) for a, b in table1.QUESTIONS if {a, b} <= VALUES.keys()]
COSTS = {"steps": 6000, "macs_given": 1.2e12, "macs_whole": 4.2e12, "seconds": 61.0, "validation": 33.3, "control": ""}


def costed(table):
    return table.assign(**COSTS)


def test_summary_averages_a_persons_volumes_and_seeds_before_it_takes_the_deviation_over_people():
    table = summary(metrics(VALUES), "volume").set_index("method")
    assert table.index.tolist() == list(VALUES)
    people = 30 + np.arange(PEOPLE) + 0.3 * LEADS
    assert table.psnr["student"] == pytest.approx(people.mean()) and table.n["student"] == PEOPLE
    assert table.psnr_sd["student"] == pytest.approx(people.std(ddof=1))


def test_each_person_is_shown_by_every_method():
    table = each_person(metrics(VALUES, ("test", "people")))
    assert table.columns.tolist() == ["dataset", "acceleration", "person", *VALUES] and len(table) == PEOPLE
    of_all = summary(metrics(VALUES, ("test", "people")), "volume").query("set == 'people'").set_index("method").psnr
    for method in VALUES:
        assert table[method].mean() == pytest.approx(of_all[method]), "over people it is Table 1's mean"
    assert each_person(metrics(VALUES)).empty
    head, person = table.person[0], number(table.distilled[0], 2)
    lines = people_markdown(table, "profile x").splitlines()
    assert lines[4].startswith(f"|  | {head} |")
    assert next(line for line in lines if line.startswith("| Distilled")).startswith(
        f"| Distilled student | {person} |"
    )
    lines = people_markdown(table.assign(distilled=np.nan), "profile x").splitlines()
    assert next(line for line in lines if line.startswith("| Distilled")).startswith("| Distilled student | – |")


def test_a_failed_training_of_one_seed_leaves_a_hole():
    values = metrics(VALUES)
    values.loc[(values.method == "distilled") & (values.seed == 1), ["psnr", "ssim", "nmse", "hfe"]] = np.nan
    table = summary(values, "volume").set_index("method")
    assert np.isnan(table.psnr["distilled"]) and np.isnan(table.psnr_sd["distilled"]) and table.psnr["student"] > 30
    tests = significance(values, [("distilled", "student"), ("teacher", "student")])
    assert tests.verdict[0] == "no result" and np.isnan(tests.difference[0]) and tests.difference[1] > 1
    words = order_in_words(table.reset_index(), tests)
    assert "Nothing can be said, since a training failed: distilled student." in words


def test_a_question_compares_seeds_and_people_and_a_persons_volumes_count_once():
    tests = significance(metrics(VALUES), [("student_steps", "student")])
    row = tests[tests.metric == "psnr"].iloc[0]
    assert (row.seeds, row.people) == (2, PEOPLE) and row.difference == pytest.approx(0.7)
    assert row.by_seed == "+0.7000 +0.7000" and row.p_people == pytest.approx(2 / 2**PEOPLE)
    assert np.isnan(row.p_seeds) and row.verdict == "better"
    once = significance(metrics(VALUES, seeds=(0,)), [("student_steps", "student")])
    assert once.verdict[0] == "too few seeds"


def test_what_is_not_trained_stands_against_every_seed():
    row = significance(metrics(VALUES), [("student", "zero_filled")]).iloc[0]
    assert row.by_seed == "+9.9000 +10.1000" and row.seeds == 2


def test_a_family_of_tests_is_the_questions_of_one_cell_and_set():
    seeds = range(6)
    both = [metrics(VALUES, ("test", "people"), seeds), metrics(VALUES, ("test",), seeds, "knee", 8.0)]
    tests = significance(pd.concat(both), QUESTIONS)
    assert len(tests) == 3 * len(QUESTIONS) * 2
    for _, family in tests[tests.metric == "psnr"].groupby(["dataset", "acceleration", "set"]):
        np.testing.assert_allclose(family.p_people_holm, holm(family.p_people.tolist()))
        np.testing.assert_allclose(family.p_seeds_holm, holm(family.p_seeds.tolist()))
        assert family.p_people_holm.max() == pytest.approx(len(QUESTIONS) * 2 / 2**PEOPLE)
    ssim = tests[tests.metric == "ssim"]
    assert ssim.p_people_holm.isna().all() and ssim.verdict.eq("").all()


def test_a_set_of_one_person_is_not_tested_and_that_is_said():
    values = metrics(VALUES)
    tests = significance(values[values.person == "p1"], QUESTIONS)
    assert tests.empty and {"dataset", "p_people", "p_seeds_holm", "verdict"} <= set(tests.columns)
    assert significance_markdown(tests) == "*No set of several people: nothing can be compared.*\n"


def test_few_seeds_and_few_people_are_named_where_a_p_would_stand():
    values = metrics(VALUES)
    text = significance_markdown(significance(values[values.person < "p5"], [("distilled", "student")]))
    assert "| too few seeds | too few people |" in text and "\n| Distilled student − Student |" in text
    assert "+0.500 [" in text and "| +0.50 +0.50 | better |" in text and "phantom; 2 seeds, 5 phantoms**" in text
    assert "Holm over the questions of one cell and set" in text and "on these networks" in text


def said(values):
    table, tests = summary(metrics(values), "volume"), significance(metrics(values), QUESTIONS)
    return order_in_words(table, tests)


def test_words_say_whether_the_order_holds_by_how_much_and_where_the_controls_stand():
    assert "does not hold" not in said(VALUES)
    assert "+0.50 dB, 25% of the teacher's lead of 2.00 dB" in said(VALUES)
    assert "stands −0.20 dB for as many steps (worse), −0.50 dB for as much compute, the teacher given" in said(VALUES)
    assert "−1.00 dB for as much compute as it and its teacher (worse)" in said(VALUES)
    assert "does not hold" in said({**VALUES, "distilled": 29.9})


def test_of_a_teacher_that_is_level_with_the_student_no_share_is_told():
    level = {**VALUES, "teacher": VALUES["student"] + 0.004, "distilled": VALUES["student"] + 0.03}
    assert "+0.03 dB. Against" in said(level) and "the teacher's lead" not in said(level)
    both = pd.DataFrame([VALUES, level])
    assert share_of_lead(both).tolist() == pytest.approx([0.25, np.nan], nan_ok=True)
    assert np.isnan(share_of_lead(both.iloc[1])) and share_of_lead(both.iloc[0]) == pytest.approx(0.25)


def test_table_1_shows_the_papers_numbers_and_costs_beside_ours():
    text = table1_markdown(costed(summary(metrics(VALUES), "volume")), "profile x")
    assert "**brain, set “test”: phantom, per volume; 7 phantoms, 2 seeds**" in text
    line = next(line for line in text.splitlines() if line.startswith("| Distilled student"))
    assert line.endswith("| 33.50 ± 2.16 | **0.9000 ± 0.0000** | 39.80 | 0.9770 |")
    assert "| **35.00 ± 2.16** |" in text and "| Distilled student | 6,000 | 1.2 | 4.2 | 61 |" in text
    assert "other images than ours" in text


def test_the_knee_stands_per_slice_as_published_and_per_volume_beside():
    values = metrics(VALUES, dataset="knee")
    slices = pd.concat([values.assign(slice=n) for n in (0, 1)])
    table = costed(pd.concat([summary(values, "volume"), summary(slices, "slice")], ignore_index=True))
    text = table1_markdown(table, "profile x")
    blocks = text.split("**knee")[1:]
    assert blocks[0].startswith(", set “test”: phantom, per slice, each on its own maximum; 16 slices, 2 seeds**")
    assert "paper PSNR" in blocks[0] and "paper PSNR" not in blocks[1] and ", per volume; 7 phantoms" in blocks[1]
    assert "paper PSNR" in table1_markdown(costed(summary(metrics(VALUES), "volume")), "x").split("**brain")[1]


def test_an_experiments_rows_stand_beside_the_same_network_alone_at_their_cost():
    table = costed(summary(metrics(VALUES), "volume"))
    table.loc[table.method == "distilled", "control"] = "student_compute"
    text = experiment_markdown(table, "profile x")
    line = next(line for line in text.splitlines() if line.startswith("| Distilled student"))
    assert line.startswith("| Distilled student | 33.50 ± 2.16 | 34.00 | −0.50 | ")
    assert line.endswith("| 33.30 | 6,000 | 1.2 | 4.2 | 61 |")
    assert " | – | – | " in next(line for line in text.splitlines() if line.startswith("| Teacher"))


def test_what_alone_would_take_is_read_off_its_curve():
    """One dB per doubling: as good as after one and a half doublings is as good as 2^1.5 of the first cost."""
    rows = [
        ("alone_1", 30.0, 1e12, ""), ("alone_2", 31.0, 2e12, ""), ("alone_4", 30.5, 4e12, ""), ("alone_8", 33.0, 8e12, ""),
        ("teacher", 35.0, 9e12, ""), ("worse", 29.0, 1e12, "x"), ("between", 32.0, 2e12, "x"), ("same", 31.0, 2e12, "x"),
        ("better", 34.0, 2e12, "x"),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["method", "psnr", "macs_given", "control"])
    table = table.assign(set="test", steps=1.0, macs_whole=2 * table.macs_given, label=table.method)
    table = pd.concat(
        [table, table.assign(set="people", psnr=0.0), table[:1].assign(method="zero_filled", steps=np.nan)]
    )
    found = crossings(table, ["alone_1", "alone_2", "alone_4", "alone_8"]).set_index("row")
    assert found.index.tolist() == ["worse", "between", "same", "better"]
    assert found["alone takes"].tolist() == ["less than", "about", "about", "more than"]
    assert found["compute / 10¹²"].tolist() == pytest.approx([1, 4, 2, 8])
    assert found["teacher given"].tolist() == pytest.approx([1, 2, 1, 4])
    assert found["with its training"].tolist() == pytest.approx([0.5, 1, 0.5, 2])
    table.loc[table.method.isin(["alone_4", "same"]), "psnr"] = np.nan
    holes = crossings(table, ["alone_1", "alone_2", "alone_4", "alone_8"]).set_index("row")
    assert holes.index.tolist() == ["worse", "between", "better"]
    assert holes["compute / 10¹²"].tolist() == pytest.approx([1, 4, 8]), "a failed length is no point of the curve"
    table.loc[table.method == "alone_8", "psnr"] = 30.9
    falls = crossings(table, ["alone_1", "alone_2", "alone_4", "alone_8"]).set_index("row")
    assert falls.loc["better", ["alone takes", "compute / 10¹²"]].tolist() == ["more than", pytest.approx(8)], (
        "its longest"
    )


def test_numbers_are_shown_without_false_signs_and_holes_as_dashes():
    assert [number(v, 2) for v in (-0.001, -1.005, np.nan, 1234.5)] == ["0.00", "−1.00", "–", "1,234.50"]
    assert [number(v, 2, "+") for v in (0.0, -0.003, 0.01)] == ["0.00", "0.00", "+0.01"]
    assert value(np.nan, 1.0, 2) == "–" and value(1.0, np.nan, 1) == "1.0"


def test_any_table_is_shown_with_units_arrows_and_its_best_in_bold():
    table = pd.DataFrame(
        {"computed by": ["a|b", "c"], "ms": [1.04, 12.0], "exact": [True, False], "threads": 2, "calls": [3, np.nan]}
    )
    note, _, heads, marks, *rows = plain_markdown(table).splitlines()
    assert note == "*In all rows: threads 2.*" and marks == "| :-- | --: | :-- | --: |"
    assert heads == "| computed by | median / ms ↓ | exact | calls |"
    assert rows == ["| a\\|b | **1.0** | yes | 3 |", "| c | 12.0 | no | – |"]


def test_the_answer_counts_on_which_side_of_zero_the_intervals_lie():
    table = costed(summary(metrics(VALUES, ("test", "people")), "volume"))
    table.loc[table.method == "distilled", "control"] = "student_compute"
    text = answer_table(table, significance(metrics(VALUES, ("test", "people")), QUESTIONS))
    head, _, first, _, above, below, around = [line for line in text.splitlines() if line.startswith("|")]
    assert (
        head
        == "|  | as much compute as distilled, teacher given | Student | as many steps as distilled | as much "
        + ("compute as distilled and its teacher |")
    )
    assert first.startswith("| brain 4x, test: 7 phantoms | −0.50 [") and first.count("<br>worse") == 3
    assert above == "| interval above 0 | 0 of 2 | 2 of 2 | 0 of 2 | 0 of 2 |"
    assert below == "| interval below 0 | 2 of 2 | 0 of 2 | 2 of 2 | 2 of 2 |" and around.count("0 of 2") == 4


def test_the_worth_of_symmetry_by_hand():
    """One line of eight and no mirror line of it: with symmetry two lines, so half the acceleration."""
    mask = np.zeros((8, 8), bool)
    mask[[0, 3]] = True
    image = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    (row,) = symmetry(image, {"a mask": mask}).to_dict("records")
    assert row["mask"] == "a mask" and row["lines without their mirror"] == 0.5
    assert row["acceleration with symmetry"] == pytest.approx(8 / 3)
    completed = mask | mirrored(mask)
    errors = [np.abs(np.fft.ifft2(np.fft.fft2(image) * m)) - image for m in (mask, completed)]
    expected = [10 * np.log10(image.max() ** 2 / np.mean(e**2)) for e in errors]
    assert [row["zero-filled PSNR / dB"], row["with symmetry"]] == pytest.approx(expected, abs=1e-3)


def test_two_arms_stand_beside_each_other_with_what_each_leads_its_control_by():
    """The complex arm 2 dB lower throughout, but its distilled student 2.5; the control of both is the student alone."""
    other = {name: value - 2 - 0.5 * (name == "distilled") for name, value in VALUES.items()}
    arms = []
    for values, kind in ((VALUES, "phantom"), (other, "phantom at a simulated phase")):
        volumes = metrics(values).assign(kind=kind)
        table = summary(volumes, "volume")
        table["control"] = np.where(table.method == "distilled", "student_compute", None)
        both = pd.concat([table, table.assign(aggregation="slice", psnr=0.0)])
        arms.append((both, significance(volumes, QUESTIONS)))
    found = beside_each_other(*arms)
    assert found.method.tolist() == list(VALUES) and set(found.kind) == {"phantom"}
    row = found.set_index("method").loc["distilled"]
    assert row.psnr_magnitude - row.psnr_complex == pytest.approx(2.5, abs=0.02)
    assert row.lead_magnitude == pytest.approx(-0.5, abs=1e-6) and row.lead_complex == pytest.approx(-1, abs=0.01)
    assert row.low_complex <= row.lead_complex <= row.high_complex
    assert found[found.method != "distilled"].lead_complex.isna().all(), "nothing to set it beside"

    text = domains_markdown(found, "profile x")
    assert "**brain 4x, set “test”: phantom; 7 phantoms, 2 seeds**" in text and "nan" not in text
    lead = VALUES["teacher"] - VALUES["student"]
    shares = ((VALUES["distilled"] - less - VALUES["student"]) / lead for less in (0, 0.5))
    words = (
        f"by {lead:+.2f} dB and {lead:+.2f} dB; distillation wins back {' and '.join(f'{s:.0%}' for s in shares)} of it"
    )
    assert words.replace("-", "−") in text and "stands −0.50 [" in text and "the best recipe's" not in text
    cells = [c.strip() for c in next(line for line in text.splitlines() if "Distilled" in line).split("|")[2:8]]
    assert cells[0].startswith("33.50 ±") and cells[1].startswith("31.00 ±") and cells[4].startswith("−0.50 [")
    assert cells[5].startswith("−1.0") or cells[5].startswith("−0.99")
