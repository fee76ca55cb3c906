"""The report: a small site of every table and figure, the notebooks and the library, that opens from a file.

`kdmri_study.pages` writes its pages, Sphinx builds them as `docs/conf.py` says.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study.pages import write_pages
from kdmri_study.study import Study

FILES = tuple(sorted((PROJECT / "docs").glob("*.*")))
"""What the report is built by, beside its code."""


def report_page(study: Study) -> Path:
    """The page on which a study's report begins."""
    return study.results / "report" / "index.html"


def write_report(study: Study) -> list[str]:
    """Build a study's report from what is there of its results, in place of the one before.

    Returns
    -------
    What Sphinx warned of.

    Raises
    ------
    StudyError
        When the evidence is damaged, or Sphinx fails; then the report before stays.
    """
    folder = report_page(study).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".report-") as aside:
        pages, made, trees = (Path(aside) / name for name in ("pages", "made", "trees"))
        write_pages(study, pages)
        command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", PROJECT / "docs", "-d", trees]
        title = f"html_title=KD-MRI, profile {study.name}"
        told = subprocess.run([*command, "-D", title, pages, made], capture_output=True, text=True, cwd=PROJECT)
        if told.returncode:
            raise StudyError(f"{folder}: can't be built: {told.stderr.strip()[-2000:]}")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return [line.replace(f"{pages}/", "") for line in told.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
