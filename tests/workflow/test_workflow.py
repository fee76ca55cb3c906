"""The workflow: what it plans, from nothing and after something was deleted or changed."""

import subprocess
import sys
from pathlib import Path

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
    # An experiment of runs that Table 1 has too.
    experiment = {"notebook": "05_ablations", "dataset": "cardiac", "degradation": {"acceleration": 8}}
    profile = small_profile(folder / "small.yaml", experiments={"ablations": experiment | {"parts": ["attention"]}})
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
    """A file of each notebook at a time, until one of each kind has been away."""
    kinds = {job.name: list({path.suffix: path for path in job.written(made)}.values()) for job in jobs(made)}
    for turn in range(max(map(len, kinds.values()))):
        away = {name: files[turn] for name, files in kinds.items() if turn < len(files)}
        for path in away.values():
            path.rename(path.with_name(f"{path.name}.aside"))
        try:
            plan = planned(made.source, made.folder)
        finally:
            for path in away.values():
                path.with_name(f"{path.name}.aside").rename(path)
        assert away.keys() <= plan.keys()


def test_verify_looks_at_every_file_and_says_what_it_cannot_compare(made):
    stray, missing = made.table("of_a_part_that_is_gone"), made.figure("masks")
    reading, names = made.table("table1").with_suffix(".md"), made.table("ablations_attention").with_suffix(".runs.txt")
    contents = {path: path.read_text() for path in (reading, names)}
    stray.write_text("a\n1\n")
    reading.write_text(contents[reading].replace("Teacher", "Techer"))
    names.write_text("\n".join(contents[names].splitlines()[:-1]) + "\n")
    aside = missing.rename(missing.with_name("masks.aside"))
    try:
        found = verify(made)
    finally:
        stray.unlink()
        aside.rename(missing)
        for path, content in contents.items():
            path.write_text(content)
    wrong = dict(line.split(": ", 1) for line in found.wrong)
    assert set(wrong) == {str(path) for path in (stray, missing, aside, reading, names)}
    assert wrong[str(missing)] == "not there" and wrong[str(stray)] == "the profile doesn't ask for it"
    assert "isn't as from its runs" in wrong[str(reading)] and "isn't as from its runs" in wrong[str(names)]
    compared = {str(path) for job in jobs(made) for path in job.written(made)} - set(wrong)
    said = {line.split(": ")[0] for line in found.not_compared}
    assert {Path(name).suffix for name in compared - said} == {".csv", ".md", ".txt", ".png"}
    assert all("deployment_times" in name or Path(name).suffix in (".pdf", ".html", ".ipynb") for name in said)


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
