"""Notebooks in JupyterLab by "Run All", as a person sees them."""

import contextlib
import json
import re
import subprocess
import sys
import time

import pytest
from playwright.sync_api import TimeoutError

from kdmri_lib.storage import PROJECT
from tests.studies import sharing_data, small_profile

# Minutes, and an idle machine: a kernel beside other tests starts late, and what is waited for may have gone by.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ERROR = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'


def opened(lab, page, name: str, **parameters) -> str:
    """Open a copy of a notebook with these parameters in JupyterLab; returns the copy's text."""
    notebook = json.loads((PROJECT / "notebooks" / f"{name}.ipynb").read_text())
    cell = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    source = "".join(cell["source"])
    for key, value in parameters.items():
        source = re.sub(rf'^{key} = "[^"]*"', f"{key} = {str(value)!r}", source, flags=re.MULTILINE)
    cell["source"] = source.splitlines(keepends=True)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    (lab.folder / f"{name}.ipynb").write_text(text)
    page.goto(f"{lab.url}/lab/tree/{name}.ipynb?token=test&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector(".jp-NotebookPanel-toolbar .jp-Notebook-ExecutionIndicator[data-status=idle]")
    return text


def run_all(page) -> None:
    """Run all cells by the menu; again where JupyterLab, just opened, took no notice."""
    for _ in range(4):
        page.click('li[role="menuitem"]:has-text("Run") >> nth=0')
        page.click('li[role="menuitem"] >> text="Run All Cells"')
        with contextlib.suppress(TimeoutError):
            begun = r"/\[(\*|\d+)\]:/.test(document.querySelector('.jp-Notebook').innerText)"
            page.wait_for_function(begun, timeout=15_000)
            return
    raise AssertionError("no cell runs")


def until_done(page) -> None:
    """Wait until no cell waits or runs."""
    text = "document.querySelector('.jp-Notebook').innerText"
    page.wait_for_function(f"!{text}.includes('[*]')", timeout=400_000)
    assert page.locator(ERROR).all_inner_texts() == []


def look_inside(page, unseen: bool) -> None:
    """The widget answers clicks: at once in the browser, and by its kernel; `unseen`: at another acceleration by networks
    that were never trained for it, which it says."""
    look = page.locator(".look")
    page.wait_for_selector(".look[aria-busy=false]")
    caption, picture = look.locator(".main figcaption"), look.locator(".main canvas")
    before = picture.evaluate("canvas => canvas.toDataURL()")
    look.get_by_role("button", name="Distilled student").click()
    found = re.fullmatch(r"Distilled student: PSNR ([\d.]+) dB, SSIM [\d.]+", caption.inner_text())
    assert found and picture.evaluate("canvas => canvas.toDataURL()") != before
    look.get_by_label("Acceleration").select_option("5x" if "5x" in look.inner_text() else "8x")
    page.wait_for_selector(".look[aria-busy=false]")
    assert ("never saw" in look.inner_text()) is unseen
    assert re.search(r"PSNR ([\d.]+)", caption.inner_text())[1] != found[1], "reconstructed anew, by another mask"


def test_notebook_00_in_two_clicks(lab, page):
    before = opened(lab, page, "00_start_here")
    run_all(page)
    until_done(page)
    shown = page.inner_text(".jp-Notebook")
    assert "Distilled student" in shown and "real people" in shown
    page.wait_for_function("document.querySelectorAll('.jp-Notebook .jp-OutputArea img').length >= 2")
    look_inside(page, unseen=False)
    page.keyboard.press("Control+s")
    saved, deadline = lab.folder / "00_start_here.ipynb", time.monotonic() + 30
    while saved.read_text() == before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert '"outputs": [\n' in saved.read_text()
    strip = re.search(r"-m (nbstripout [^\"]*)\"", (PROJECT / "environment.sh").read_text())[1].split()
    filtered = subprocess.run(
        [sys.executable, "-m", *strip], stdin=saved.open(), capture_output=True, text=True, check=True
    )
    assert filtered.stdout == before, "through git's filter a notebook that was run is as it was"


def test_notebook_03_shows_how_its_trainings_come_along(lab, page, prepared_study, tmp_path):
    profile = small_profile(tmp_path / "longer.yaml", steps=250)
    sharing_data(profile, tmp_path, prepared_study)
    opened(lab, page, "03_distillation", profile=profile, folder=tmp_path, cell="cardiac_8x")
    run_all(page)
    line = page.get_by_text(re.compile(r"^[A-Z][^:]*: step [\d,]+ of [\d,]+ · validation PSNR [\d.]+ dB · .* left$"))
    line.wait_for(timeout=300_000)
    box = line.bounding_box()
    assert box["width"] > 500 and box["height"] < 60, "a line and its bar, as wide as the cell"
    assert re.search(r"Training \d of 7 · .* left", page.inner_text(".jp-Notebook"))
    until_done(page)
    assert re.search(r"^Trained 7 networks in .*\.$", page.inner_text(".jp-Notebook"), re.MULTILINE)
    assert page.locator(".jp-Notebook progress").count() == 0
    look_inside(page, unseen=True)


@pytest.mark.parametrize("width", [1400, 390])
def test_the_viewers_page_works_from_a_file_without_a_network(browser, page, width, tmp_path):
    from kdmri_lib.looking.page import write_page
    from tests.unit.looking.test_views import small_views

    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": width, "height": 1200})
    views = small_views()
    path = write_page(tmp_path / "look.html", views, {"one": [0, 2], "two": [0]}, "Look inside")
    page.goto(path.as_uri())
    page.wait_for_selector(".look[aria-busy=false]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    look, caption = page.locator(".look"), page.locator(".main figcaption")
    stated = {m["name"]: m["psnr"] for m in views.picture("one", 2, "4x")["methods"]}
    for key, name in (("2", "Zero-filled"), ("3", "Student"), ("f", "Zero-filled")):
        look.get_by_role("button", name="Flick").focus()
        page.keyboard.press(key)
        assert caption.inner_text().startswith(f"{name}: PSNR {stated[name]:.2f} dB")
    look.get_by_label("Wipe against", exact=True).check()
    assert "right: Fully sampled (the reference)" in caption.inner_text()
    canvas = look.get_by_label(re.compile("^one, left"))
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    canvas.click(position={"x": 20, "y": 20})
    assert canvas.evaluate("canvas => canvas.toDataURL()") != before, "the wipe went there"
    kspace = look.get_by_label("k-space", exact=True)
    before = kspace.evaluate("canvas => canvas.toDataURL()")
    look.get_by_label("Mask on: only what is measured").uncheck()
    assert kspace.evaluate("canvas => canvas.toDataURL()") != before
    look.get_by_label("Person").select_option("two")
    look.get_by_label("Acceleration").select_option("of none")
    page.wait_for_selector(".look[aria-busy=false]")
    assert "a note" in look.inner_text()
    assert look.get_by_role("slider", name=re.compile("^Slice")).count() == 0, (
        "of a single slice there is none to choose"
    )
    assert asked == [path.as_uri()], [url for url in asked if url.startswith("http")]
