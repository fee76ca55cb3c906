"""A real browser, headless Chromium, and JupyterLab; tests that need them are skipped where there is no Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
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
    folder, home = tmp_path / "lab", tmp_path / "home"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    own = {name: str(home) for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")}
    settings = {"token": "test", "root_dir": folder, "port": url.rpartition(":")[2], "port_retries": 0}
    arguments = [f"--ServerApp.{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "jupyterlab", *arguments, "--no-browser", "--allow-root", "--LabApp.news_url=None"]
    server = subprocess.Popen(command, env={**os.environ, **own, "JUPYTER_PREFER_ENV_PATH": "1"})
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/api?token=test", timeout=5)
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.1)
        yield Lab(url, folder)
    finally:
        server.terminate()
        server.wait()
