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


def test_the_questions_over_seeds_count_cells_by_their_intervals(tmp_path):
    study = readme.Study("table1", tmp_path)
    rows = [
        ("brain", 4, "distilled", "student_compute", -0.31, -0.4, -0.2, 6),
        ("knee", 4, "distilled", "student_compute", 0.02, -0.1, 0.1, 3),
        ("brain", 4, "best", "best_compute", 0.25, 0.1, 0.4, 6),
        ("brain", 4, "best_teacher", "best_compute", 0.5, 0.1, 0.4, 6),
        ("knee", 4, "best", "best_compute", -0.1, -0.3, 0.1, 3),
        ("knee", 4, "best_teacher", "best_compute", 1.0, 0.1, 0.4, 3),
        ("brain", 4, "best", "teacher", float("nan"), float("nan"), float("nan"), 6),
    ]
    columns = ["dataset", "acceleration", "a", "b", "difference", "low", "high", "seeds"]
    study.table("significance").parent.mkdir(parents=True)
    pd.DataFrame(rows, columns=columns).assign(set="test", metric="psnr").to_csv(
        study.table("significance"), index=False
    )
    _, _, paper, best, _, _, said = BLOCKS["over_seeds"].write(study).splitlines()
    assert (
        paper == "| as published, against alone at its cost | 2 | 1 of 2 | 0 of 2 | 1 of 2 | −0.31 to +0.02 | 3 to 6 |"
    )
    assert (
        best
        == "| the best recipe, against alone at its cost | 2 | 1 of 2 | 1 of 2 | 0 of 2 | −0.10 to +0.25 | 3 to 6 |"
    )
    assert "wins back −10% to 50% of its teacher's lead" in said and "a third or more in 1 of 2 cells" in said
