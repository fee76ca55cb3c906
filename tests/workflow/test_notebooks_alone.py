"""Each notebook by itself, from an empty folder, at profile smoke: it prepares and trains what it needs."""

import pytest

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import read_json
from kdmri_study.guide import WAY
from kdmri_study.jobs import execute, jobs
from kdmri_study.study import Study

QUICK = ("06_super_resolution",)  # the others by --long
ALONE = [stop.notebook for stop in WAY if stop.notebook != "09_report"]


def execute_alone(name: str, folder):
    study = Study("smoke", folder)
    job = next(job for job in jobs(study) if job.notebook == name)
    execute(job.source, job.executed(study), {"profile": "smoke", "folder": str(folder), **job.parameters})
    return study, job


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ALONE])
def test_a_notebook_runs_alone_from_an_empty_folder(name, tmp_path):
    study, job = execute_alone(name, tmp_path)
    assert all(path.exists() for path in job.written(study))
    outputs = [o for cell in read_json(job.executed(study))["cells"] for o in cell.get("outputs", [])]
    shown = ["".join(o.get("data", {}).get("text/html", "")) for o in outputs]
    assert not any("<progress" in text for text in shown), "no bar stays behind"
    assert any("Trained" in text for text in shown) == bool(job.runs)


def test_the_report_alone_says_the_command_that_makes_what_it_needs(tmp_path):
    with pytest.raises(StudyError, match=r"StudyError: .* \(\./run_all\.sh --profile smoke makes what is missing\)"):
        execute_alone("09_report", tmp_path)
