"""The study's answer, by tables made by hand."""

import numpy as np
import pandas as pd

from kdmri_study.answer import answer_in_words, site_in_words, sites
from kdmri_study.study import Study


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
        (name, dataset, factor, a, b, *values, count, people)
        for (a, b), both in said.items()
        for (name, dataset, factor, count, people), values in zip(cells, both, strict=True)
    ]
    rows += [("people", "brain", 4, "best", "best_compute", 0.3, -0.1, 0.7, seeds[0], 2)]
    columns = ["set", "dataset", "acceleration", "a", "b", "difference", "low", "high", "seeds", "people"]
    tests = pd.DataFrame(rows, columns=columns).assign(metric="psnr")
    psnr = {"zero_filled": (20, 20), "student": (30, 30), "distilled": (31, 33), "teacher": (32, 32)}
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


def test_the_answer_counts_cells_by_their_intervals():
    text = answer_in_words(Study("table1"), *answers((6, 3)))
    head, _, paper, well, best, _, people, _, start, _, size, _, order = text.splitlines()
    assert (
        "(virtual subjects and phantoms) of 2 of 9 cells, 3 to 6 of 6 seeds; better or worse where the 95% interval, over "
        in head
    )
    assert paper == "- as the paper does: better in **0 of 2**, worse in 1 (−0.31 to +0.02 dB)"
    assert well.endswith("better in **2 of 2**, worse in 0 (+0.10 to +0.20 dB)")
    assert best.endswith(
        "better in **1 of 2**, worse in 0 (−0.10 to +0.25 dB); of its teacher's lead over the same network alone it wins "
        "back −10% to 50%, a third or more in 1"
    )
    assert people == (
        "On real people, by the best recipe found here: brain 4x +0.30 [−0.10, +0.70] dB, ahead for 1 of 2. Further from "
        "the truth than no network: best recipe's student for bert at 4x, 25.50 dB (alone 30.50, zero-filled 26.00)."
    )
    assert start.endswith("without any teacher, for one stage better in **2 of 2**, worse in 0 (+0.40 to +0.90 dB).")
    assert "the best recipe's student is better in **1 of 2**, worse in 0 (0.00 to +0.30 dB)" in size
    assert "alone for as much compute is better in **0 of 2**, worse in 2 (−0.30 to −0.10 dB)" in size
    assert "well initialised, the best recipe's student is better in **0 of 2**, worse in 2 (−0.20 dB)" in size
    assert order.endswith("comes out in 1 of 2 cells.")


def test_the_answer_says_what_one_seed_can_and_leaves_out_what_is_not_there():
    table, tests, _ = answers((1, 1))
    tests.loc[(tests.a == "distilled") & (tests.dataset == "knee"), ["difference", "low", "high"]] = np.nan
    table.loc[(table.method == "distilled") & (table.dataset == "knee"), "psnr"] = np.nan
    text = answer_in_words(Study("table1"), table, tests[tests.a == "distilled"])
    assert "1 of 6 seeds; better or worse where the 95% interval, over people, for these networks, lies" in text
    assert "as the paper does: better in **0 of 1**, worse in 1 (−0.31 dB)" in text
    assert "best" not in text and "On real people" not in text
    assert "comes out in 1 of 1 cells" in text, "of a cell whose training failed nothing is known"
    assert "Nothing can be said" in answer_in_words(Study("table1"), table, tests[:0])


def test_what_a_teacher_is_worth_to_a_site_is_said_of_the_most_subjects(tmp_path):
    study = Study("table1", tmp_path)
    study.table("x").parent.mkdir(parents=True)
    assert site_in_words(sites(study)) == ""
    said = {
        ("teacher_of_8", "truth_8"): (-0.16, -0.27, -0.06),
        ("teacher_of_8", "truth_2"): (0.28, 0.1, 0.5),
        ("teacher_of_8", "sent"): (0.03, -0.1, 0.1),
        ("by_set_1_8", "truth_8"): (-2.0, -2.4, -1.6),
        ("by_set_1_8", "teacher_of_8"): (-9.0, -9.1, -8.9),
        ("teacher_of_4", "truth_4"): (7.0, 6.0, 8.0),
    }
    rows = [(*pair, *values) for pair, values in said.items()]
    tests = pd.DataFrame(rows, columns=["a", "b", "difference", "low", "high"]).assign(
        set="test", metric="psnr", seeds=1, people=12
    )
    elsewhere = tests.assign(set="people", difference=5.0)
    table = pd.DataFrame({"method": ["truth_2", "truth_4", "truth_8"]}).assign(set="test")
    for name in ("brain", "knee"):
        table.to_csv(study.table(f"{name}_site_site"), index=False)
    pd.concat([tests, elsewhere]).to_csv(study.table("brain_site_site_significance"), index=False)
    tests.assign(difference=[0.1, np.nan, *[0.2] * 4], low=0.05, high=0.5, seeds=3).to_csv(
        study.table("knee_site_site_significance"), index=False
    )
    words = site_in_words(sites(study))
    assert words.startswith(
        "Where a site has no fully sampled scans (brain 4x of 1 seed, knee 4x of 3 seeds), the student "
    )
    assert "against the truth of as many subjects better in **1 of 2**, worse in 1 (−0.16 to +0.10 dB); " in words
    assert "against the truth of a quarter of them better in **1 of 1**, worse in 0 (+0.28 dB); " in words
    assert "trained where the teacher was better in **1 of 2**, worse in 0 (+0.03 to +0.20 dB); " in words
    assert words.endswith("against the truth of as many, better in **1 of 2**, worse in 1 (−2.00 to +0.20 dB).\n")
