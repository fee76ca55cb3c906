"""The report as people open it: built from committed results, from a file, without a network, on a screen and a phone."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from kdmri_lib.storage import read_json, write_json
from kdmri_study.jobs import jobs
from kdmri_study.report import report_page, write_report
from kdmri_study.study import Study

TEX = re.compile(r"\$[^$\n]+\$|\\(?:frac|sum|[lr]Vert|mathrm|times|theta|lambda|hat|left|begin)\b")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """Committed results of a profile without two of their files, and one notebook executed; its report."""
    study = Study("evening", tmp_path_factory.mktemp("report"))
    committed = Study("evening").results
    for kind in ("tables", "figures", "evidence"):
        if (committed / kind).exists():
            shutil.copytree(committed / kind, study.results / kind)
    figures = [study.figure(o.name) for job in jobs(study) for o in job.outputs if o.kind == "figure"]
    for path in (study.table("significance"), next(path for path in figures if path.exists())):
        path.unlink()
    job = next(job for job in jobs(study) if job.notebook == "03_distillation")
    notebook = read_json(job.source)
    outputs = [
        {"data": {"image/png": PIXEL, "text/plain": "<Figure>"}},
        {"data": {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "  0%| a frozen bar"}},
    ]
    cell = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    cell["outputs"] = [{"output_type": "display_data", "metadata": {}, **output} for output in outputs]
    write_json(job.executed(study), notebook)
    assert write_report(study) == [], "Sphinx has nothing to warn of"
    return study


class Page(HTMLParser):
    """Where a page's links and pictures lead, its anchors, and the texts of its tables' cells."""

    def __init__(self, path: Path):
        super().__init__()
        self.targets, self.ids, self.cells, self.inside = [], set(), [], False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        names = {"a": "href", "img": "src", "link": "href", "script": "src"}
        if found.get(names.get(tag, "")):
            self.targets.append(found[names[tag]])
        if tag in ("td", "th"):
            self.inside = True
            self.cells.append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def pages(study) -> dict[Path, Page]:
    return {path.resolve(): Page(path) for path in report_page(study).parent.rglob("*.html")}


def test_every_link_leads_to_a_file_and_a_place_that_are_there(pages):
    for path, page in pages.items():
        for target in page.targets:
            url = urlparse(target)
            if url.scheme in ("http", "https", "data"):
                continue
            to = (path.parent / unquote(url.path)).resolve() if url.path else path
            assert to.is_file(), f"{path.name}: {target}"
            assert not url.fragment or to not in pages or unquote(url.fragment) in pages[to].ids, (
                f"{path.name}: {target}"
            )


def test_every_output_that_is_there_is_shown_and_what_is_not_is_named(study, pages):
    folder = report_page(study).parent
    shown = {Path(urlparse(target).path).name for page in pages.values() for target in page.targets}
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.html"))
    assert ":::" not in text, "Markdown that nobody understood"
    for output in (o for job in jobs(study) for o in job.outputs if o.kind in ("table", "figure")):
        file = output.files(study)[0]
        assert (file.name in shown) == file.exists(), output.name
        assert file.name in shown or str(file.relative_to(study.folder)) in text
    front = (folder / "index.html").read_text(encoding="utf-8")
    assert front.index('id="the-answer"') < front.index('id="table-1"') < front.index('id="trainings-that-failed"')
    names = {f"{job.name}.html" if job.notebook == "03_distillation" else f"{job.notebook}.html" for job in jobs(study)}
    assert names <= shown, "every notebook, as executed or as written"


def test_tables_show_no_machine_words(study, pages):
    found = [
        cell.strip() for path, page in pages.items() if path.parent == report_page(study).parent for cell in page.cells
    ]
    assert len(found) > 500
    assert not {"nan", "NaN", "True", "False", "inf"} & {word for cell in found for word in re.split(r"[\s,]+", cell)}
    assert not [cell for cell in found if re.search(r"(^|\s|\[)[-−]0\.?0*(\s|$|\])|(^|\s|\[)-\d", cell)], (
        "a true minus, no −0"
    )


def test_a_notebooks_page_leads_back_and_leaves_frozen_bars_out(study):
    text = (report_page(study).parent / "notebooks" / "03_distillation_cardiac_8x.html").read_text(encoding="utf-8")
    assert 'href="../distillation.html#results-03-distillation-cardiac-8x"' in text
    assert "<math" in text and "a frozen bar" not in text and "Picture under the heading" in text


@pytest.mark.parametrize("width", [1400, 390])
def test_in_a_browser_without_a_network(study, pages, browser, width):
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
    tab.goto((report_page(study).parent / "search.html").as_uri() + "?q=attention")
    tab.wait_for_selector("#search-results li a")
    context.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:"))] and not errors
