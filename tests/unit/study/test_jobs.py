"""The one list of notebooks: what it declares, and what a notebook may write."""

import subprocess

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from kdmri_lib.errors import StudyError
from kdmri_lib.masks import PUBLISHED
from kdmri_lib.storage import PROJECT
from kdmri_study.evidence import pieces
from kdmri_study.jobs import NOTEBOOKS, jobs
from kdmri_study.notebook import Notebook
from kdmri_study.study import Study
from kdmri_study.verification import COMPARISONS
from tests.studies import PROFILES, with_downloads


@pytest.mark.parametrize("name", PROFILES)
def test_no_two_notebooks_write_one_file_and_every_run_is_needed_by_one(name, tmp_path):
    study = Study(with_downloads(name, tmp_path))
    found = list(jobs(study))
    written = [path for job in found for path in job.written(study)]
    assert len(written) == len(set(written)) and all(job.source.exists() for job in found)
    shown = {run.id for job in found if job.notebook != "09_report" for run in job.runs}
    needed = {needed.id for run in study.runs.values() for needed in run.needs}
    assert set(study.runs) == shown | needed
    assert found[-1].notebook == "09_report"


def test_every_notebook_of_the_project_is_declared():
    assert set(NOTEBOOKS) == {path.stem for path in (PROJECT / "notebooks").glob("*.ipynb")}


def test_published_numbers_and_masks_of_ones_own_are_among_what_a_notebook_needs(tmp_path):
    found = {job.notebook: job for job in jobs(Study("smoke"))}
    files = {name: [path.name for path in job.files] for name, job in found.items()}
    assert files["06_super_resolution"] == ["published_super_resolution.csv"]
    on_the_papers_grid = next(job for job in jobs(Study("quick")) if job.name == "03_distillation_brain_4x")
    assert on_the_papers_grid.files == (PUBLISHED,)
    assert files["07_deployment"] == ["published_times.csv"] and "published_table1.csv" in files["09_report"]
    study = Study("smoke")
    cardiac = study.dataset("cardiac").model_copy(update={"options": {"masks": "data/mine_{factor}x.npy"}})
    study.profile.datasets["cardiac"] = cardiac
    job = next(job for job in jobs(study) if job.name == "03_distillation_cardiac_8x")
    assert job.files == (PROJECT / "data/mine_8x.npy",)


def test_a_notebook_writes_what_is_declared_and_nothing_else(study, capsys):
    here = Notebook("03_distillation", "smoke", str(study.folder), cell="cardiac_8x")
    assert "not a result" in capsys.readouterr().out
    figure, _ = plt.subplots(layout="constrained")
    here.figure("attention_cardiac_8x", figure)
    assert study.figure("attention_cardiac_8x").exists()
    with pytest.raises(StudyError, match=r"figure 'mine' isn't declared for notebook 03_distillation; declared: lear"):
        here.figure("mine", figure)
    with pytest.raises(StudyError, match="table 'mine' isn't declared for notebook 03_distillation"):
        here.table("mine", pd.DataFrame())
    assert not study.table("mine").exists() and not study.figure("mine").exists()


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("03_distillation", {"cell": "cardiac_9x"}, "no cell 'cardiac_9x'; it has brain_4x, cardiac_8x, knee_5x"),
        ("01_data_preparation", {"dataset": "heart"}, "no data set 'heart'"),
        ("05_ablations", {"experiment": "nope"}, "no experiment 'nope'"),
        ("07_deployment", {"cell": "cardiac_8x", "method": "worst"}, "no method 'worst'; known: teacher, student"),
    ],
)
def test_parameters_that_name_nothing_are_told_with_what_there_is(name, parameters, message):
    with pytest.raises(StudyError, match=message):
        NOTEBOOKS[name](Study("smoke"), **parameters)


@pytest.mark.parametrize(
    ("old", "said"),
    [
        ({"a": [1.0, np.nan], "b": ["x", "y"]}, ""),
        ({"a": [1.0 + 1e-14, np.nan], "b": ["x", "y"]}, ""),
        ({"a": [1.0 + 1e-9, np.nan], "b": ["x", "y"]}, "row 0, a: 1.000000001; from its runs: 1.0"),
        ({"a": [1.0, 2.0], "b": ["x", "y"]}, "row 1, a: 2.0; from its runs: nan"),
        ({"a": [1.0, np.nan], "b": ["x", "z"]}, "row 1, b: z; from its runs: y"),
        ({"a": [1.0], "b": ["x"]}, "1 rows of a, b; from its runs: 2 rows of a, b"),
        ({"a": [1.0, np.nan], "c": ["x", "y"]}, "2 rows of a, c; from its runs: 2 rows of a, b"),
    ],
)
def test_tables_are_compared_cell_by_cell(tmp_path, old, said):
    new, there = tmp_path / "new.csv", tmp_path / "old.csv"
    pd.DataFrame({"a": [1.0, np.nan], "b": ["x", "y"]}).to_csv(new, index=False)
    pd.DataFrame(old).to_csv(there, index=False)
    assert COMPARISONS[".csv"](new, there) == said


@pytest.mark.parametrize("name", ["quick"])
def test_committed_files_of_a_profile_are_those_that_it_declares(name):
    study = Study(name)
    listed = subprocess.run(["git", "ls-files", study.results], cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a checkout")
    folders = [study.results, *(study.results / kind for kind in ("tables", "figures"))]
    declared = {path for job in jobs(study) for path in job.written(study)}
    expected = {path for path in declared if path.parent in folders and path.suffix != ".pdf"}
    expected |= {each.file(study) for each in pieces(study)}
    assert {PROJECT / line for line in listed.stdout.splitlines()} == expected
