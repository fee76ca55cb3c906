"""The numbers of README files: blocks that are written from committed tables, and held to them by a test.

A block (`kdmri_study.blocks`) stands between ``<!-- numbers: NAME -->`` and ``<!-- end -->``; `python -m kdmri_lib readme`
writes all anew.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT, write_text
from kdmri_study.blocks import BLOCKS
from kdmri_study.study import Study

# What the study found in short, in whole, and what a network costs where it is used.
PAGES = tuple(PROJECT / name for name in ("README.md", "results/README.md", "kdmri_lib/deployment/README.md"))
BLOCK = re.compile(r"(<!-- numbers: ([\w.-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def block_text(name: str) -> str:
    """What the block of that name says, from the committed tables of its profile."""
    return BLOCKS[name].write(Study(BLOCKS[name].profile))


def written(page: Path, profiles: set[str] | None = None) -> Iterator[tuple[str, str, str]]:
    """(name, as it stands, as it should) of each block of a page; of these profiles alone where they are given.

    Raises
    ------
    StudyError
        When a block isn't known.
    """
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        name = match[2]
        if name not in BLOCKS:
            raise StudyError(f"{page}: no numbers '{name}'; known: {', '.join(BLOCKS)}")
        if profiles is None or BLOCKS[name].profile in profiles:
            yield name, match[3], f"\n{block_text(name)}\n"


def wrong_blocks(study: Study) -> list[str]:
    """Which blocks of a profile aren't as from the committed tables."""
    if study.source not in {block.profile for block in BLOCKS.values()}:
        return []
    return [
        f"{page}: numbers '{name}' aren't as from the tables"
        for page in PAGES
        for name, is_, should in written(page, {study.source})
        if is_ != should
    ]


def write_numbers(pages: Iterable[Path] = PAGES) -> list[str]:
    """Write all blocks anew; the names of those that changed."""
    changed = []
    for page in pages:
        blocks = list(written(page))
        new = {name: should for name, _, should in blocks}
        text = page.read_text(encoding="utf-8")
        write_text(page, BLOCK.sub(lambda match, new=new: match[1] + new[match[2]] + match[4], text))
        changed += [name for name, is_, should in blocks if is_ != should]
    return changed
