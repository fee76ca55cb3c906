"""Every notebook on complex images, by the profile alone; and the table of the two arms beside each other."""

import pandas as pd
import pytest
import yaml

from benchmarks.domains import METHODS as AT_PHASES
from benchmarks.domains import phase_costs, phases
from kdmri_lib.evaluation import METRICS
from kdmri_lib.storage import PROJECT
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.jobs import execute, jobs
from kdmri_study.study import Study
from kdmri_study.verification import verify_runs


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """Profile smoke on the cardiac phantom: complex images in every experiment, their magnitude beside in Table 1."""
    folder = tmp_path_factory.mktemp("complex")
    profile = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())
    cardiac = profile["datasets"]["cardiac"]
    profile["datasets"] = {
        "cardiac": cardiac,
        "cardiac_complex": cardiac | {"domain": "complex", "sampled_like": "cardiac"},
    }
    profile["cells"] = {"cardiac_complex": [8], "cardiac": [8]}
    for experiment in profile["experiments"].values():
        experiment["dataset"] = "cardiac_complex"
        experiment.pop("elsewhere", None)
    (folder / "complex.yaml").write_text(yaml.safe_dump(profile))
    study = Study(str(folder / "complex.yaml"), folder)
    for job in jobs(study):
        execute(job.source, job.executed(study), {"profile": study.source, "folder": str(folder), **job.parameters})
    return study


@pytest.mark.slow
def test_every_notebook_runs_and_its_tables_follow_from_its_runs(study):
    assert all(path.exists() for job in jobs(study) for path in job.written(study))
    assert verify_runs(study).wrong == []
    assert all(run.dataset.domain == "complex" for run in study.runs.values() if run.dataset.name != "cardiac")


@pytest.mark.slow
def test_the_two_arms_stand_beside_each_other_with_the_numbers_of_table_1(study):
    found = pd.read_csv(study.table("domains"))
    assert found.dataset.unique().tolist() == ["cardiac"] and set(found.method) == set(METHODS)
    table1 = pd.read_csv(study.table("table1")).set_index(["dataset", "aggregation", "set", "method"])
    assert table1[list(METRICS)].notna().all(axis=None)
    for row in found.itertuples():
        for arm, dataset in (("magnitude", "cardiac"), ("complex", "cardiac_complex")):
            assert getattr(row, f"psnr_{arm}") == table1.psnr[dataset, "volume", row.set, row.method]


@pytest.mark.slow
def test_the_costs_of_a_phase_are_against_the_test_sets_own_numbers(study):
    found = phase_costs(study)
    assert set(found.method) == set(AT_PHASES) and set(found[found.network == "complex"].phase) == set(phases((8, 8)))
    table1 = pd.read_csv(study.table("table1")).set_index(["dataset", "aggregation", "set", "method"])
    for row in found[found.network == "magnitude"].itertuples():
        assert row.psnr == pytest.approx(table1.psnr["cardiac", "volume", "test", row.method], abs=1e-6)
    wide = found[found.network == "complex"].pivot(index="method", columns="phase", values="psnr")
    assert (wide["1.57 rad everywhere"] - wide["0"]).abs().max() < 0.05
