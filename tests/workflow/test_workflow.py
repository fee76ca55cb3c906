"""The workflow: what it plans, from nothing and after something was deleted or changed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from kdmri_lib.errors import StudyError
from kdmri_lib.storage import PROJECT
from kdmri_study import verification
from kdmri_study.cards import model_files, write_models
from kdmri_study.derived import all_measured, all_tables
from kdmri_study.evidence import pieces, unpacked, write_evidence
from kdmri_study.jobs import jobs
from kdmri_study.runs import RunFolder
from kdmri_study.study import Study
from kdmri_study.tables import write_table
from kdmri_study.verification import verify_evidence, verify_runs
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
        timeout=1150,
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


@pytest.mark.slow  # every notebook is executed again
def test_verify_looks_at_every_file_and_says_what_it_cannot_compare(made):
    stray, missing = made.table("of_a_part_that_is_gone"), made.figure("masks_cardiac")
    reading, names = made.table("table1").with_suffix(".md"), made.table("ablations_attention").with_suffix(".runs.txt")
    contents = {path: path.read_text() for path in (reading, names)}
    stray.write_text("a\n1\n")
    reading.write_text(contents[reading].replace("Teacher", "Techer"))
    names.write_text("\n".join(contents[names].splitlines()[:-1]) + "\n")
    aside = missing.rename(missing.with_name("masks_cardiac.aside"))
    try:
        found = verify_runs(made)
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


@pytest.fixture
def cloned(made, tmp_path):
    """The study as a clone holds it: tables, evidence, weights and cards; no runs, no images."""
    write_models(made)
    for path in made.results.rglob("*"):
        if path.parent.name in ("tables", "evidence"):
            copy = tmp_path / path.relative_to(made.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    shutil.copytree(made.folder / "results" / "models", tmp_path / "results" / "models")
    return Study(made.source, tmp_path)


def test_from_the_evidence_alone_every_table_of_metrics_follows(cloned):
    found = verify_evidence(cloned)
    assert list(found.wrong) == list(found.changed) == []
    tables = ["table1", "significance", "evidence"]
    compared = [f"{table}{ending}" for table in tables for ending in (".csv", ".md", ".runs.txt")]
    assert found.compared == len(compared)
    said = {Path(line.split(": ")[0]).name for line in found.not_compared}
    assert "ablations_attention.csv" in said and not said & set(compared)


def test_a_number_that_does_not_follow_from_the_evidence_is_named(cloned):
    table, weights = cloned.table("table1"), model_files(cloned, cloned.cells[0], "distilled")[0]
    frame = pd.read_csv(table)
    frame.loc[0, "psnr"] += 1e-6
    frame.to_csv(table, index=False)
    words = cloned.table("significance").with_suffix(".md")
    words.write_text(words.read_text().replace("dB", "DB", 1))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    card = model_files(cloned, cloned.cells[0], "teacher")[1]
    card.write_text(card.read_text().replace("| test (phantom) | 2 |", "| test (phantom) | 20 |"))
    found = verify_evidence(cloned)
    wrong = {Path(line.split(": ")[0]).name for line in found.wrong}
    assert wrong == {"table1.csv", "significance.md", weights.name, card.name}


def test_runs_made_by_code_that_changed_since_are_named(cloned, monkeypatch):
    run = cloned.methods(cloned.cells[0], 0)["student"]
    now = verification.training_code
    monkeypatch.setattr(verification, "training_code", lambda r: "changed" if r == run else now(r))
    found = verify_evidence(cloned)
    assert found.wrong == [] and [line.split(" ")[0] for line in found.changed] == [run.id]


@pytest.mark.parametrize(
    "damage", [lambda c: b"", lambda c: c[: len(c) // 2], lambda c: c[:-40] + bytes([c[-40] ^ 16]) + c[-39:]]
)
def test_damaged_evidence_is_named(cloned, damage):
    path = pieces(cloned)[0].file(cloned)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StudyError, match=r"seed0.tar.xz: damaged or cut short"):
        verify_evidence(cloned)
    path.unlink()
    with pytest.raises(StudyError, match=r"seed0.tar.xz: no such file; ./run_all.sh"):
        verify_evidence(cloned)


def test_evidence_of_another_study_is_named(cloned, tmp_path):
    other = Study(str(small_profile(tmp_path / "other.yaml", steps=8)), tmp_path)
    shutil.copytree(cloned.results / "evidence", other.results / "evidence")
    with pytest.raises(StudyError, match=r"seed0.tar.xz: (\d+) of the \1 runs that the profile declares aren't in it"):
        verify_evidence(other)


def test_metrics_in_the_evidence_that_are_not_what_was_recorded_are_named(cloned, tmp_path):
    there = unpacked(cloned, tmp_path / "unpacked")
    run = RunFolder(there, there.methods(there.cells[0], 0)["distilled"])
    better = run.volumes.assign(psnr=run.volumes.psnr + 1)
    better.to_csv(run.path / "metrics_volume.csv", index=False)
    for each in pieces(there):
        each.file(cloned).write_bytes(write_evidence(there, each).read_bytes())
    assert any(
        f"{run.run.id}, metrics_volume.csv isn't what was recorded" in line for line in verify_evidence(cloned).wrong
    )


def test_a_run_that_two_machines_trained_is_named_and_the_first_pieces_numbers_count(cloned, tmp_path):
    there = unpacked(cloned, tmp_path / "unpacked")
    cell, experiment = pieces(there)
    shared = next(run for run in cell.runs if run in experiment.runs)
    metrics = RunFolder(there, shared).path / "metrics_volume.csv"
    pd.read_csv(metrics).assign(psnr=1.0).to_csv(metrics, index=False)
    experiment.file(cloned).write_bytes(write_evidence(there, experiment).read_bytes())
    found = verify_evidence(cloned)
    assert found.wrong == [] and f"run {shared.id} was trained twice" in "\n".join(found.not_compared)


def test_a_run_that_is_deleted_is_trained_again_and_what_is_made_of_it_too(made):
    record = RunFolder(made, made.methods(made.cell("cardiac_8x"), 0)["student"]).path / "run.json"
    content = record.read_bytes()
    record.unlink()
    plan = planned(made.source, made.folder)
    assert plan["train"] == 1 and {"03_distillation_cardiac_8x", "09_report"} <= set(plan)
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


def test_a_study_in_pieces_has_tables_of_the_pieces_that_are_there(cloned, tmp_path):
    """Of two seeds one is there: its table says so, and verifies; table `evidence` says how to make the other. Damaged, it
    is no hole."""
    profile = yaml.safe_load(Path(cloned.source).read_text()) | {"in_pieces": True, "seeds": [0, 1]}
    path = tmp_path / "in_pieces.yaml"
    path.write_text(yaml.safe_dump(profile))
    study = Study(str(path), tmp_path)
    shutil.rmtree(tmp_path / "results" / "models")  # whose cards name the other profile
    name = f"{study.cells[0].tag}_seed0.tar.xz"
    (study.results / "evidence").mkdir(parents=True)
    shutil.copy(cloned.results / "evidence" / name, study.results / "evidence" / name)
    there = unpacked(study, tmp_path / "unpacked")
    derived = {table.name: table for table in all_tables(there, all_measured(there))}
    assert set(derived["table1"].table.seeds) == {1}
    cell = derived["evidence"].table.set_index("of").loc[study.cells[0].tag]
    assert (cell.seeds, cell.asked, cell.next) == (1, 2, f"./run_all.sh --profile {path} {study.cells[0].tag}_seed1")
    assert f"`{cell.next}` makes the first piece" in derived["evidence"].text
    for table in derived.values():
        write_table(table.table, study.table(table.name), table.runs, table.text)
    found = verify_evidence(study)
    assert found.wrong == [] and found.compared == 9
    frame = pd.read_csv(study.table("table1"))
    frame.assign(psnr=frame.psnr + 1e-6).to_csv(study.table("table1"), index=False)
    assert [line.split(": ")[0] for line in verify_evidence(study).wrong] == [str(study.table("table1"))]
