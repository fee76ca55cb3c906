"""Notebooks in JupyterLab by "Run All", as a person sees them."""

import re
import subprocess
import sys
import time

import pytest

from kdmri_lib.storage import PROJECT

ERROR = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'


def look_inside(page) -> None:
    """The widget answers clicks: at once in the browser, and by its kernel."""
    look = page.locator(".look")
    page.wait_for_selector(".look[aria-busy=false]")
    caption, picture = look.locator(".main figcaption"), look.locator(".main canvas")
    before = picture.evaluate("canvas => canvas.toDataURL()")
    look.get_by_role("button", name="Distilled student").click()
    found = re.fullmatch(r"Distilled student: PSNR ([\d.]+) dB, SSIM [\d.]+", caption.inner_text())
    assert found and picture.evaluate("canvas => canvas.toDataURL()") != before
    look.get_by_label("Acceleration").select_option("8x")
    page.wait_for_selector(".look[aria-busy=false]")
    assert re.search(r"PSNR ([\d.]+)", caption.inner_text())[1] != found[1], "reconstructed anew, by another mask"


@pytest.mark.slow  # minutes, and an idle machine: a kernel beside other tests starts late
def test_notebook_00_in_two_clicks(lab, page):
    before = (PROJECT / "notebooks" / "00_start_here.ipynb").read_text()
    saved, deadline = lab.folder / "00_start_here.ipynb", time.monotonic() + 600
    saved.write_text(before)
    page.goto(f"{lab.url}/lab/tree/{saved.name}?token=test&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector(".jp-NotebookPanel-toolbar .jp-Notebook-ExecutionIndicator[data-status=idle]")
    text = "document.querySelector('.jp-Notebook').innerText"
    while not page.evaluate(rf"/\[(\*|\d+)\]:/.test({text})"):  # JupyterLab, just opened, may take no notice
        page.click('li[role="menuitem"]:has-text("Run") >> nth=0')
        page.click('li[role="menuitem"] >> text="Run All Cells"')
        page.wait_for_timeout(10_000)
        assert time.monotonic() < deadline, "no cell runs"
    page.wait_for_function(f"!{text}.includes('[*]')", timeout=400_000)
    assert page.locator(ERROR).all_inner_texts() == []
    page.wait_for_function("document.querySelectorAll('.jp-Notebook .jp-OutputArea img').length >= 2")
    look_inside(page)
    page.keyboard.press("Control+s")
    while saved.read_text() == before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert '"outputs": [\n' in saved.read_text()
    strip = re.search(r"-m (nbstripout [^\"]*)\"", (PROJECT / "environment.sh").read_text())[1].split()
    filtered = subprocess.run(
        [sys.executable, "-m", *strip], stdin=saved.open(), capture_output=True, text=True, check=True
    )
    assert filtered.stdout == before, "through git's filter a notebook that was run is as it was"


@pytest.mark.parametrize("width", [1400, pytest.param(390, marks=pytest.mark.slow)])
def test_the_viewers_page_works_from_a_file_without_a_network(browser, page, width, tmp_path):
    from kdmri_lib.viewer.views import write_page
    from tests.unit.viewer.test_views import small_views

    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": width, "height": 1200})
    views = small_views()
    path = write_page(tmp_path / "look.html", views, "Look inside", count=2)
    page.goto(path.as_uri())
    page.wait_for_selector(".look[aria-busy=false]")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    look, caption = page.locator(".look"), page.locator(".main figcaption")
    stated = {m["name"]: m["psnr"] for m in views.picture("one", 2, "4x")["methods"]}
    for key, name in (("2", "Zero-filled"), ("3", "Student"), ("f", "Zero-filled")):
        look.get_by_role("button", name="Blink").focus()
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
