"""The README's numbers are those of the committed tables."""

import pandas as pd
import pytest

from kdmri_lib.errors import StudyError
from kdmri_study import readme
from kdmri_study.readme import BLOCKS, README, write_readme, written


def test_every_number_block_is_as_from_the_committed_tables():
    blocks = list(written(README.read_text(encoding="utf-8")))
    assert {name for name, _, _ in blocks} == set(BLOCKS), "each is used, and once"
    assert [name for name, is_, should in blocks if is_ != should] == [], "python -m kdmri_lib readme"


def test_writing_mends_a_block_and_leaves_the_rest(tmp_path):
    text = README.read_text(encoding="utf-8")
    name, block, _ = next(written(text))
    copy = tmp_path / "README.md"
    copy.write_text(text.replace(block, "\nan old number\n", 1), encoding="utf-8")
    assert write_readme(copy) == [name] and copy.read_text(encoding="utf-8") == text
    assert write_readme(copy) == []


def test_a_block_that_nobody_writes_is_named():
    with pytest.raises(StudyError, match=r"no numbers 'wishes'; known: answer, table1, "):
        list(written("<!-- numbers: wishes -->\n42\n<!-- end -->"))


def test_a_block_whose_table_is_not_there_is_named(tmp_path):
    study = readme.Study("quick", tmp_path)
    with pytest.raises(StudyError, match=r"table1.csv: no such file, and the README's numbers are from it"):
        BLOCKS["table1"].write(study)


def test_the_answer_counts_cells_by_differences_and_intervals(tmp_path):
    study = readme.Study("table1", tmp_path)
    cells = [("test", "brain", 4, 6, 12), ("test", "knee", 4, 3, 8)]
    said = {
        ("distilled", "student_compute"): [(-0.31, -0.4, -0.2), (0.02, -0.1, 0.1)],
        ("he_distilled", "he_compute"): [(0.2, 0.1, 0.3), (0.1, 0.05, 0.2)],
        ("best", "best_compute"): [(0.25, 0.1, 0.4), (-0.1, -0.3, 0.1)],
        ("best_teacher", "best_compute"): [(0.5, 0.1, 0.4), (1.0, 0.1, 0.4)],
        ("best", "teacher"): [(0.0, -0.1, 0.1), (0.3, 0.2, 0.4)],
        ("best_compute", "teacher"): [(-0.1, -0.2, -0.05), (-0.3, -0.4, -0.2)],
    }
    rows = [
        (name, dataset, factor, a, b, *values, seeds, people)
        for (a, b), both in said.items()
        for (name, dataset, factor, seeds, people), values in zip(cells, both, strict=True)
    ]
    rows += [("people", "brain", 4, "best", "best_compute", 0.3, -0.1, 0.7, 6, 9)]
    columns = ["set", "dataset", "acceleration", "a", "b", "difference", "low", "high", "seeds", "people"]
    study.table("significance").parent.mkdir(parents=True)
    pd.DataFrame(rows, columns=columns).assign(metric="psnr").to_csv(study.table("significance"), index=False)
    psnr = {"zero_filled": (20, 20), "student": (30, 30), "distilled": (31, 33), "teacher": (32, 32)}
    table = [(d, 4, method, v) for method, both in psnr.items() for d, v in zip(("brain", "knee"), both, strict=True)]
    table = pd.DataFrame(table, columns=["dataset", "acceleration", "method", "psnr"])
    table.assign(set="test", aggregation="volume").to_csv(study.table("table1"), index=False)
    people = {
        "person": ["anna", "bert"],
        "best": [30.0, 25.5],
        "best_compute": [30.0, 30.5],
        "zero_filled": [25.0, 26.0],
    }
    pd.DataFrame(people).assign(acceleration=5).to_csv(study.table("people"), index=False)
    head, _, paper, well, best, _, people, _, size, *_ = BLOCKS["answer"].write(study).splitlines()
    assert "2 cells of Table 1, 3 to 6 of 6 seeds" in head
    assert paper == (
        "- as the paper does: ahead in **1 of 2** (−0.31 to +0.02 dB; interval above 0 in 0, below 0 in 1);"
    )
    assert well.endswith("ahead in **2 of 2** (+0.10 to +0.20 dB; interval above 0 in 2, below 0 in 0);")
    assert best.endswith(
        "ahead in **1 of 2** (−0.10 to +0.25 dB; interval above 0 in 1, below 0 in 0), and it wins back −10% to 50% of its "
        "teacher's lead, a third or more in 1."
    )
    assert "9 real people, brain, the best recipe against alone: 4x +0.30 [−0.10, +0.70] dB." in people
    assert "bert at 5x" in people and ": 25.50 dB, alone 30.50, zero-filled 26.00 (" in people
    assert "by the best recipe: ahead in **1 of 2** (+0.00 to +0.30 dB; interval above 0 in 1, below 0 in 0)" in size
    assert (
        "alone, for as much compute: ahead in **0 of 2** (−0.30 to −0.10 dB; interval above 0 in 0, below 0 in 2)"
        in size
    )
    assert "comes out in 1 of 2 cells" in size
