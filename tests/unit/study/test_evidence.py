"""Jobs and their evidence: written and read again to the same tables; what is damaged is named; what is committed holds."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from kdmri_lib.datasets.prepared import test_volumes as volumes_of
from kdmri_lib.declared import declared_operator
from kdmri_lib.errors import StudyError
from kdmri_lib.evaluation import METRICS, evaluate
from kdmri_study import models
from kdmri_study.evidence import FILES, Evidence, job, jobs, write_evidence
from kdmri_study.profile import Study
from kdmri_study.recipes import stage
from kdmri_study.runs import RunFolder
from kdmri_study.tables import all_tables, experiments, trainings, write_table
from tests.studies import JOB, PROFILES, runs_of

RESULTS = Study("smoke").folder / "results"
WITH_EVIDENCE = [name for name in PROFILES if (RESULTS / name / "evidence").is_dir()]


def tables(study: Study) -> dict[str, pd.DataFrame]:
    evidence = Evidence(study)
    return {table.name: table.frame for table in all_tables(evidence, list(experiments(evidence)))}


@pytest.fixture
def elsewhere(finished_study, tmp_path) -> Study:
    """The finished study where there is its evidence alone."""
    study = Study(finished_study.source, tmp_path / "elsewhere")
    shutil.copytree(finished_study.results / "evidence", study.results / "evidence")
    return study


def test_a_job_of_a_name_that_there_is_none_of_is_told_with_those_that_there_are():
    with pytest.raises(StudyError, match="profile 'quick' has no job 'brain_6x_seed0'; it has brain_4x_seed0, "):
        job(Study("quick"), "brain_6x_seed0")


def test_evidence_gives_the_tables_that_the_runs_give_and_is_the_same_when_written_again(finished_study, elsewhere):
    there, here = tables(finished_study), tables(elsewhere)
    assert {"trainings", "table1", "comparisons", "over_settings"} <= there.keys() == here.keys()
    for name, table in there.items():
        pd.testing.assert_frame_equal(here[name], table, rtol=1e-12)
    kept = elsewhere.results / "evidence" / JOB
    written = write_evidence(finished_study, job(finished_study, JOB))
    assert [(written / name).read_bytes() for name in FILES] == [(kept / name).read_bytes() for name in FILES]


def test_evidence_says_of_each_run_what_was_declared_and_what_it_cost(finished_study):
    about = pd.read_csv(finished_study.results / "evidence" / JOB / "runs.csv").set_index("run")
    runs = runs_of(finished_study)
    assert set(about.index) == {run.id for run in runs.values()}
    distilled, row = runs["distilled"], about.loc[runs["distilled"].id]
    assert (row.teacher, row.start) == (distilled.teacher.id, distilled.start.id)
    assert (row.steps, row.macs) == stage(distilled) and row.seconds > 0 and row.processor
    assert (row.dataset, row["mask"], row.seed, row.images) == ("cardiac", "8x", 0, distilled.dataset.digest)


def test_what_is_not_trained_is_stored_or_measured_where_there_are_images_or_missed(finished_study, study, elsewhere):
    run = runs_of(study)["student"]
    asked = run.dataset, run.undersampling, "zero_filled"
    expected, _ = evaluate(None, declared_operator(*asked[:2]), volumes_of(study.prepared(run.dataset)))
    for source in (study, elsewhere, finished_study):
        found = Evidence(source).of_untrained(*asked).volumes
        pd.testing.assert_frame_equal(found[list(METRICS)], expected[list(METRICS)], rtol=1e-9)
    shutil.rmtree(elsewhere.results)
    with pytest.raises(StudyError, match=r"cardiac-\w+.h5: no such file, and no evidence of zero_filled on cardiac"):
        Evidence(elsewhere).of_untrained(*asked)


@pytest.mark.parametrize("file", FILES)
def test_damaged_evidence_is_named_by_its_file(elsewhere, file):
    path = elsewhere.results / "evidence" / JOB / file
    content, middle = path.read_bytes(), path.stat().st_size // 2
    cut = content[:middle] if file.endswith("xz") else content[:20]
    for spoiled in (cut, b"", content[:middle] + b"\xff\x00\xff" + content[middle + 3 :], b'{"a": 1}', None):
        path.unlink() if spoiled is None else path.write_bytes(spoiled)
        if file != FILES[0] or spoiled is not None:  # without the first, a job has no evidence yet
            with pytest.raises(StudyError, match=rf"{JOB}/{file}: "):
                tables(elsewhere)


def committed(name: str, folder: Path) -> Study:
    """A study that has its committed evidence alone, whatever was trained here."""
    study = Study(name, folder)
    study.results.mkdir(parents=True)
    (study.results / "evidence").symlink_to(RESULTS / name / "evidence")
    return study


@pytest.mark.parametrize("name", WITH_EVIDENCE)
def test_committed_evidence_holds_the_runs_that_its_jobs_declare_and_is_counted_once(name, tmp_path):
    """A declaration that reads otherwise would orphan what was trained."""
    study = committed(name, tmp_path)
    found, about = jobs(study), []
    there = {folder.name: folder for folder in (study.results / "evidence").iterdir()}
    assert there.keys() <= found.keys()
    for folder in (there[name] for name in found if name in there):
        about.append(pd.read_csv(folder / "runs.csv"))
        assert set(about[-1].run) <= found[folder.name].runs.keys()
        assert all(file.name in FILES and file.stat().st_size < 2e6 for file in folder.iterdir())
    each = pd.concat(about).drop_duplicates("run")
    assert {run for name in there for run in found[name].runs} == set(each.run)  # some in another job's evidence
    table = trainings(Evidence(study)).frame
    assert (table.seeds.sum(), table.asked.sum()) == (len(about), len(found))
    assert table.trainings.sum() == len(each) and table.macs_given.sum() == pytest.approx(each.macs.sum())
    assert table.hours.sum() == pytest.approx(each.seconds.sum() / 3600)


@pytest.mark.parametrize("name", [n for n in WITH_EVIDENCE if any((RESULTS / n / "tables").glob("*.csv"))])
def test_committed_tables_and_cards_follow_from_the_committed_evidence(name, tmp_path):
    """Numbers, and how they are written."""
    study = committed(name, tmp_path)
    evidence = Evidence(study)
    for table in all_tables(evidence, list(experiments(evidence))):
        write_table(study, table)
    made, kept = (
        {path.name: path for path in folder.glob("*.csv")}
        for folder in (study.results / "tables", RESULTS / name / "tables")
    )
    assert made.keys() == kept.keys()
    for file, path in kept.items():
        again = pd.read_csv(made[file])
        pd.testing.assert_frame_equal(again, pd.read_csv(path), rtol=1e-9, atol=1e-9, obj=f"{name}, {file}")
    for path in (RESULTS / name / "tables").glob("*.md"):
        assert (study.results / "tables" / path.name).read_text() == path.read_text(), path.name
    for kept in (kept for kept in models.committed() if kept.profile == name):
        assert evidence.of(kept.run).validation(kept.run) == pytest.approx(kept.validation, abs=0.006)
        assert models.card(evidence, kept) == kept.weights.with_suffix(".md").read_text(), kept.weights.name


def test_a_run_folder_that_is_cut_short_or_of_other_images_gives_no_number(finished_copy, finished_study):
    run = runs_of(finished_copy)["student"]
    whole = Evidence(finished_study).of(run)
    folder = RunFolder(finished_copy, run)
    for name in ("metrics_volume.csv", "run.json"):
        lines = (folder.path / name).read_text().splitlines(keepends=True)
        spoilt = lines[:2] if name.endswith(".csv") else [line.replace('"data": "', '"data": "0') for line in lines]
        (folder.path / name).write_text("".join(spoilt))
        found = Evidence(finished_copy).of(run)  # of evidence, which is whole
        pd.testing.assert_frame_equal(found.volumes[whole.volumes.columns], whole.volumes)
        shutil.copy(RunFolder(finished_study, run).path / name, folder.path / name)
    shutil.rmtree(finished_copy.results / "evidence")
    (folder.path / "metrics_volume.csv").write_text("")
    assert Evidence(finished_copy).of(run) is None
