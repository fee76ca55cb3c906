"""A real browser, headless Chromium, and JupyterLab; tests that need them are skipped where there is no Chromium."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium by Playwright."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A page; an error in its own JavaScript fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 6000})
    page, errors = context.new_page(), []
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: errors.append(error))  # Playwright asks a handler for attributes
    yield page
    context.close()
    assert not errors


class Lab(NamedTuple):
    """JupyterLab at `url`, with its token, on the notebooks in `folder`."""

    url: str
    folder: Path


@pytest.fixture
def lab(browser, tmp_path):
    """JupyterLab on an empty folder, with settings of its own."""
    folder = tmp_path / "lab"
    folder.mkdir()
    names = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    own = {"JUPYTER_PREFER_ENV_PATH": "1"} | {name: str(tmp_path / "home") for name in names}
    asked = ["--ServerApp.token=test", f"--ServerApp.root_dir={folder}", "--no-browser", "--allow-root"]
    command = [sys.executable, "-m", "jupyterlab", *asked, "--LabApp.news_url=None"]
    log = tmp_path / "log"
    with log.open("w") as told, subprocess.Popen(command, env=os.environ | own, stderr=told) as server:
        try:  # it takes the first free port from 8888 on, and says which
            while not (found := re.search(r"http://localhost:\d+", log.read_text())):
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
            yield Lab(found[0], folder)
        finally:
            server.terminate()
