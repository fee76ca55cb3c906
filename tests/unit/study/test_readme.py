"""The numbers of README files are those of the committed tables."""

import pytest

from kdmri_lib.errors import StudyError
from kdmri_study.blocks import BLOCKS
from kdmri_study.readme import PAGES, write_numbers, written


def test_every_number_block_is_as_from_the_committed_tables():
    blocks = [block for page in PAGES for block in written(page)]
    assert sorted(name for name, _, _ in blocks) == sorted(BLOCKS), "each is used, and once"
    assert [name for name, is_, should in blocks if is_ != should] == [], "python -m kdmri_lib readme"


def test_writing_mends_a_block_and_leaves_the_rest(tmp_path):
    page = PAGES[0]
    text = page.read_text(encoding="utf-8")
    name, block, _ = next(written(page))
    copy = tmp_path / "README.md"
    copy.write_text(text.replace(block, "\nan old number\n", 1), encoding="utf-8")
    assert write_numbers([copy]) == [name] and copy.read_text(encoding="utf-8") == text
    assert write_numbers([copy]) == []


def test_a_block_that_nobody_writes_is_named(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("<!-- numbers: wishes -->\n42\n<!-- end -->", encoding="utf-8")
    with pytest.raises(StudyError, match=r"README.md: no numbers 'wishes'; known: short, answer, table1, "):
        list(written(page))
