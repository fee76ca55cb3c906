"""Tables from metrics: what is averaged over what, what is tested, and what is said."""

import numpy as np
import pandas as pd
import pytest

from kdmri_lib.masks import mirrored
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.tables import significance, significance_markdown, summary, symmetry, table1_markdown, verdict


def metrics(values, sets=("test",)):
    rows = [
        {"dataset": "brain", "acceleration": 4.0, "set": s, "kind": "phantom", "method": m, "seed": seed, "run": "r",
         "subject": f"v{n}", "psnr": value + n + 0.2 * seed - 0.1, "ssim": 0.9, "nmse": 0.1, "hfe": 0.1}
        for s in sets for m, value in values.items() for seed in (0, 1) for n in range(6)
    ]  # fmt: skip
    return pd.DataFrame(rows)


VALUES = {
    "zero_filled": 20,
    "student": 30,
    "distilled": 30.5,
    "student_steps": 30.7,
    "student_compute": 31,
    "teacher": 32,
}


def test_summary_averages_seeds_before_it_takes_the_deviation_over_volumes():
    table = summary(metrics(VALUES), "volume").set_index("method")
    assert table.index.tolist() == list(METHODS)
    assert table.psnr["student"] == pytest.approx(32.5) and table.n["student"] == 6
    assert table.psnr_sd["student"] == pytest.approx(np.std(np.arange(6), ddof=1))


def test_the_verdict_says_when_the_order_does_not_hold_and_by_how_much():
    assert "does not hold" not in verdict(metrics(VALUES))
    assert "+0.50 dB, 25% of the teacher's lead of 2.00 dB" in verdict(metrics(VALUES))
    assert "as many steps it stands -0.20 dB, for as much compute -0.50 dB" in verdict(metrics(VALUES))
    assert "does not hold" in verdict(metrics({**VALUES, "distilled": 29.9}))


def test_significance_is_corrected_over_all_rows_and_left_out_for_few_volumes():
    table = significance(metrics(VALUES))
    psnr = table[table.metric == "psnr"]
    assert len(table) == 10 and (psnr.p_holm >= psnr.p).all() and (psnr.p_holm > psnr.p).any()
    assert table[table.metric == "ssim"].p.eq(1).all()
    few = metrics(VALUES)
    assert len(significance(few[few.subject < "v3"])) == 0


def test_table_1_shows_the_papers_numbers_beside_ours():
    text = table1_markdown(summary(metrics(VALUES), "volume"), "profile x")
    assert "| Distilled student | 33.00 ± 1.87 | 0.9000 ± 0.0000 | 39.80 | 0.9770 |" in text
    assert "other images than ours" in text and "phantom" in text


def test_too_few_volumes_leave_an_empty_table_and_say_so():
    values = metrics(VALUES)
    tests = significance(values[values.subject < "v3"])
    assert tests.empty and {"dataset", "p", "p_holm"} <= set(tests.columns)
    assert significance_markdown(tests) == "*Too few test volumes for a test.*\n"


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
