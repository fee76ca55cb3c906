"""The way through the notebooks: heads held to it, links that lead somewhere, times from what was executed."""

import json
import os
import re

import pandas as pd
import pytest

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT, write_json
from kdmri_study import guide
from kdmri_study.guide import WAY, heads, map_of_notebooks, measured, write_minutes
from kdmri_study.jobs import jobs
from kdmri_study.readme import PAGES, written
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study
from tests.studies import small_profile


def test_notebooks_carry_the_heads_that_the_way_gives_them():
    assert {path.stem: is_ for path, is_, _ in heads()} == {path.stem: should for path, _, should in heads()}


def test_blocks_of_the_readme_that_no_table_decides_are_as_written():
    """Those from tables are held to them by `verify`."""
    blocks = {name: (is_, should) for name, is_, should in written(PAGES[0])}
    for name in ("notebooks", "commands", "short"):
        assert blocks[name][0] == blocks[name][1], f"python -m kdmri_lib readme writes block {name} anew"


def test_every_link_of_the_way_leads_to_a_file():
    for stop in WAY:
        first = json.loads((PROJECT / "notebooks" / f"{stop.notebook}.ipynb").read_text())["cells"][0]
        links = re.findall(r"\]\((\w+\.ipynb)\)", "".join(first["source"]))
        assert 1 <= len(links) <= 2 and all((PROJECT / "notebooks" / link).exists() for link in links)
    listed = re.findall(r"\((notebooks/[^)]+)\)", map_of_notebooks("notebooks/"))
    assert listed == [f"notebooks/{stop.notebook}.ipynb" for stop in WAY]


@pytest.mark.parametrize("page", [*PAGES, PROJECT / "kdmri_lib" / "README.md"], ids=lambda page: page.parent.name)
def test_every_link_of_a_readme_leads_to_a_file_and_a_heading_of_it(page):
    def places(file):
        """The places of a file's headings, as GitHub names them."""
        titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}

    for target in re.findall(r"\]\(((?!https?:)[^)]+)\)", page.read_text(encoding="utf-8")):
        file, _, place = target.partition("#")
        found = page.parent / file if file else page
        assert found.exists() and (not place or place in places(found)), target


@pytest.fixture
def executed(tmp_path):
    """A study of which notebook 02 was executed, in 30 s, ten seconds after its runs of 60 s each were trained; but one,
    which the notebook trained itself."""
    study = Study(str(small_profile(tmp_path / "small.yaml")), tmp_path)
    job = next(job for job in jobs(study) if job.notebook == "02_teacher_training")
    about = {"start_time": "2026-01-01T12:00:00+00:00", "duration": 30.0}
    write_json(job.executed(study), {"cells": [], "metadata": {"papermill": about}})
    begun = pd.Timestamp(about["start_time"]).timestamp()
    needed = {run.id: run for each in job.runs for run in (each, *each.needs)}
    for number, run in enumerate(needed.values()):
        record = RunFolder(study, run).path / "run.json"
        write_json(record, {"seconds": 60.0})
        os.utime(record, (begun + 20 - 30 * (number > 0),) * 2)
    return study, len(needed)


def test_a_notebooks_time_is_its_own_and_that_of_the_trainings_before_it(executed, tmp_path, monkeypatch):
    study, runs = executed
    table = measured(study)
    assert list(table.notebook) == ["02_teacher_training"] and runs > 3
    assert table.minutes[0] == pytest.approx((30 + 60 * (runs - 1)) / 60)
    kept = tmp_path / "minutes.csv"
    kept.write_text(
        "notebook,profile,minutes,processor\n02_teacher_training,small,1,x\n01_data_preparation,small,2,x\n"
    )
    write_minutes(study, kept)
    found = pd.read_csv(kept).set_index("notebook").minutes
    assert found["01_data_preparation"] == 2 and found["02_teacher_training"] == table.minutes[0]
    monkeypatch.setattr(guide, "MINUTES", kept)
    monkeypatch.setattr(guide, "SHOWN", ("small",))
    assert "**It takes** 2 minutes at profile small" in guide.head("01_data_preparation")
    assert "**It takes** 10 minutes" not in guide.head("03_distillation")


def test_without_an_executed_notebook_there_is_nothing_to_measure(tmp_path):
    with pytest.raises(StudyError, match="none was executed"):
        measured(Study("smoke", tmp_path))


def test_a_notebook_that_is_not_on_the_way_is_said(tmp_path, monkeypatch):
    (tmp_path / "99_mine.ipynb").write_text("{}")
    monkeypatch.setattr(guide, "FOLDER", tmp_path)
    with pytest.raises(StudyError, match="99_mine"):
        guide.there()
