"""The workflow: what it plans, from nothing and after something was deleted or changed."""

import subprocess
import sys

import pytest

from kdmri_lib.storage import PROJECT
from kdmri_study.jobs import jobs
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study
from kdmri_study.verification import verify
from tests.studies import PROFILES, small_profile, with_downloads

SNAKEMAKE = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile"), "--nolock"]


def planned(profile: str, folder, *options: str) -> dict[str, int]:
    """What a dry run plans, jobs by rule."""
    result = subprocess.run(
        [
            *(*SNAKEMAKE, "--dry-run", "--quiet", "rules", "--directory", str(folder), *options),
            *("--config", f"profile={profile}", f"folder={folder}"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=PROJECT,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    lines = [line.split() for line in (result.stdout + result.stderr).splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()}


@pytest.mark.parametrize("name", PROFILES)
def test_the_workflow_makes_everything_from_nothing(name, tmp_path):
    """A dry run from an empty start plans every training, every notebook and every data set."""
    (tmp_path / "downloads").mkdir()
    profile = with_downloads(name, tmp_path / "downloads")
    study = Study(profile)
    plan = planned(profile, tmp_path)
    assert plan["train"] == len(study.runs)
    expected = {job.name for job in jobs(study)} | {f"prepare_{dataset}" for dataset in study.used_datasets}
    assert expected <= set(plan) and all(plan[name] == 1 for name in expected)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small study that the workflow made whole."""
    folder = tmp_path_factory.mktemp("made")
    profile = small_profile(folder / "small.yaml")
    subprocess.run(
        [*SNAKEMAKE, "--cores", "2", "--directory", str(folder), "--config", f"profile={profile}", f"folder={folder}"],
        check=True,
        capture_output=True,
        timeout=550,
        cwd=PROJECT,
    )
    return Study(str(profile), folder)


def test_when_all_is_there_nothing_is_planned(made):
    assert planned(made.source, made.folder) == {}


def test_any_declared_file_that_is_deleted_is_made_again(made):
    for job in jobs(made):
        kinds = {path.suffix: path for path in job.written(made)}
        for path in kinds.values():
            content = path.read_bytes()
            aside = path.with_name(f"{path.name}.aside")
            path.rename(aside)
            try:
                assert planned(made.source, made.folder).get(job.name) == 1, path
            finally:
                aside.rename(path)
            assert path.read_bytes() == content


def test_verify_looks_at_every_output_and_says_what_it_cannot_compare(made):
    stray, missing = made.table("of_a_part_that_is_gone"), made.figure("masks")
    stray.write_text("a\n1\n")
    aside = missing.rename(missing.with_name("masks.aside"))
    try:
        found = verify(made)
    finally:
        stray.unlink()
        aside.rename(missing)
    assert f"{missing}: not there" in found.wrong and f"{stray}: the profile doesn't ask for it" in found.wrong
    assert len(found.wrong) == 3, "these, and what the missing one was renamed to"
    outputs = [output for job in jobs(made) for output in job.outputs]
    measured = [str(output.files(made)[0]) for output in outputs if output.measured]
    assert len(measured) == 3 and [line.split(": ")[0] for line in found.not_compared[:-1]] == measured
    assert found.not_compared[-1].endswith("report/index.html: a report")


def test_a_run_that_is_deleted_is_trained_again_and_what_is_made_of_it_too(made):
    record = RunFolder(made, made.methods(made.cell("cardiac_8x"), 0)["student"]).path / "run.json"
    content = record.read_bytes()
    record.unlink()
    plan = planned(made.source, made.folder)
    assert plan["train"] == 1 and {"03_distillation_cardiac_8x", "08_report"} <= set(plan)
    record.write_bytes(content)


def test_a_folders_name_is_not_run_by_the_workflow(tmp_path, prepared_study):
    """Prepared data in a folder whose name would be a command, were it not quoted."""
    folder = tmp_path / "it's; touch sprung; echo $(touch sprung)"
    study = Study("smoke", folder)
    result = subprocess.run(
        [*SNAKEMAKE, str(study.prepared("cardiac")), "--cores", "1", "--config", "profile=smoke", f"folder={folder}"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert study.prepared("cardiac").read_bytes() == prepared_study.prepared("cardiac").read_bytes()
    assert not [*tmp_path.rglob("sprung"), *PROJECT.glob("sprung")]
