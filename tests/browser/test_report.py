"""The report as people open it: from a file, without a network, on a screen and a phone."""

import re
from html import unescape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlparse

import pytest

from kdmri_study.report import report_page
from kdmri_study.workflow import pages as notebooks

TAG = re.compile(r"<[^>]+>")
TEX = re.compile(r"\$[^$\n]+\$|\\(?:frac|sum|[lr]Vert|mathrm|times|theta|lambda|hat|left|begin)\b")


class Page(NamedTuple):
    """Where a page's links and pictures lead, its anchors, and the texts of its tables' cells."""

    targets: list[str]
    ids: set[str]
    cells: list[str]


def read(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    cells = re.findall(r"<t[dh]\b[^>]*>(.*?)</t[dh]>", text, re.S)
    targets = re.findall(r"""<(?:a|img|link|script)\b[^>]*?\b(?:href|src)=["']([^"']+)""", text)
    return Page(
        list(map(unescape, targets)), set(re.findall(r'\bid="([^"]+)"', text)), [TAG.sub("", cell) for cell in cells]
    )


@pytest.fixture(scope="module")
def pages(whole_study) -> dict[Path, Page]:
    return {path.resolve(): read(path) for path in report_page(whole_study).parent.rglob("*.html")}


def test_every_link_leads_to_a_file_and_a_place_that_are_there(pages):
    for path, page in pages.items():
        for target in page.targets:
            url = urlparse(target)
            if url.scheme in ("http", "https", "data"):
                continue
            to = (path.parent / unquote(url.path)).resolve() if url.path else path
            assert to.is_file(), f"{path.name}: {target}"
            known = not url.fragment or to not in pages or unquote(url.fragment) in pages[to].ids
            assert known, f"{path.name}: {target}"


def test_every_table_figure_and_notebook_is_shown_and_no_machine_word(whole_study, pages):
    folder = report_page(whole_study).parent
    shown = {Path(urlparse(target).path).name for page in pages.values() for target in page.targets}
    assert {path.name for path in whole_study.results.glob("figures/*.png")} <= shown
    assert {f"{page.name}.html" for page in notebooks(whole_study)} <= shown
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.html"))
    assert ":::" not in text, "Markdown that nobody understood"
    assert all(path.stem.replace("_", " ") in text for path in whole_study.results.glob("tables/*.md"))
    assert "not a result" in report_page(whole_study).read_text(encoding="utf-8")
    cells = [cell.strip() for path, page in pages.items() if path.parent == folder.resolve() for cell in page.cells]
    assert len(cells) > 500
    assert not {"nan", "NaN", "True", "False", "inf"} & {word for cell in cells for word in re.split(r"[\s,]+", cell)}


@pytest.mark.parametrize("width", [1400, pytest.param(390, marks=pytest.mark.slow)])
def test_in_a_browser_without_a_network(browser, whole_study, pages, width):
    """Nothing is asked for elsewhere, nothing is wider than the screen, formulas are set, every picture shows and says what
    it is."""
    context = browser.new_context(viewport={"width": width, "height": 844}, offline=True)
    asked, errors, tab = [], [], context.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    for path in pages:
        tab.goto(path.as_uri())
        seen = tab.evaluate(
            """() => ({
                wide: document.documentElement.scrollWidth - innerWidth,
                pictures: [...document.images].filter(i => !i.alt.trim() || !i.complete || !i.naturalWidth).map(i => i.src),
                text: (document.querySelectorAll('pre, code, math').forEach(e => e.remove()), document.body.innerText),
            })"""
        )
        assert seen["wide"] <= 0 and not seen["pictures"], f"{path.name}: {seen['wide']}, {seen['pictures']}"
        assert not TEX.search(seen["text"]), f"{path.name}: {TEX.search(seen['text'])}"
    tab.goto((report_page(whole_study).parent / "search.html").as_uri() + "?q=attention")
    tab.wait_for_selector("#search-results li a")
    context.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:"))] and not errors
