"""The README's numbers are those of the committed tables."""

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
