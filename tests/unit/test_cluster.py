"""On a cluster: jobs that Snakemake's SLURM executor submits to a stand-in, and processes that share batches."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from kdmri_lib.data_parallel import processes_for

from kdmri_lib import data_parallel
from kdmri_lib.declarations import LossTerm
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import read_json, write_json
from kdmri_lib.study.runs import WEIGHTS, RunFolder, train_run, trained
from kdmri_lib.study.study import PROJECT, Study
from kdmri_lib.training import _load_checkpoint
from tests.studies import CELL, sharing_data, small_profile, until_it_trains


@pytest.fixture
def slurm(tmp_path):
    """Environment in which SLURM's commands are the stand-in's, and the folder of its jobs."""
    commands, jobs = tmp_path / "bin", tmp_path / "jobs"
    commands.mkdir()
    jobs.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel", "sinfo"):
        (commands / name).write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{PROJECT}/tests/stand_in_slurm.py" {name} "$@"\n'
        )
        (commands / name).chmod(0o755)
    path = os.pathsep.join((str(commands), str(Path(sys.executable).parent), os.environ["PATH"]))
    return os.environ | {"PATH": path, "STAND_IN_JOBS": str(jobs)}, jobs


def submit(profile: Path, folder: Path, environment: dict, *targets: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile"), "--nolock", *targets),
            *("--workflow-profile", str(PROJECT / "cluster" / "slurm"), "--directory", str(PROJECT), "--cores", "2"),
            *("--slurm-no-account", "--slurm-init-seconds-before-status-checks", "2", "--jobs", "2"),
            *("--slurm-logdir", str(folder / "logs"), "--config", f"profile={profile}", f"folder={folder}"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=550,
    )


def asked_and_became(jobs: Path) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted(jobs.glob("[0-9]*.json"), key=lambda p: int(p.stem))]


def test_a_training_that_meets_its_time_limit_goes_on_in_the_next_job(slurm, prepared_study, tmp_path):
    environment, jobs = slurm
    needs = {"train": {"memory_gb": 7, "minutes": 33, "gpus": 1}}
    profile = small_profile(tmp_path / "small.yaml", 2000, resources=needs)
    study, whole = Study(str(profile), tmp_path / "cluster"), sharing_data(profile, tmp_path / "whole", prepared_study)
    run = study.methods(CELL, 0)["teacher"]
    folder = RunFolder(study, run).path
    environment |= {"STAND_IN_LIMIT": "train", "STAND_IN_WHEN": str(folder / "checkpoint.pt")}
    result = submit(profile, study.folder, environment, str(folder / "run.json"))
    assert result.returncode == 0, result.stderr
    prepared, first, second = asked_and_became(jobs)
    assert [job["state"] for job in (prepared, first, second)] == ["COMPLETED", "TIMEOUT", "COMPLETED"]
    assert first["seconds_to_end"] < 25, "it saved and ended by itself"
    assert "start again to go on from there" in Path(first["asked"]["--output"].replace("%j", "2")).read_text()
    assert (first["asked"]["-t"], first["asked"]["--mem"], first["asked"]["--gpus"]) == ("33", "7000", "1")
    assert (prepared["asked"]["-t"], prepared["asked"]["--mem"]) == ("60", "4000")
    expected = (trained(whole, run).path / WEIGHTS).read_bytes()
    assert (folder / WEIGHTS).read_bytes() == expected, "the same bits as in one go"


@pytest.mark.slow
def test_the_whole_workflow_through_slurm(slurm, tmp_path):
    environment, jobs = slurm
    profile = small_profile(tmp_path / "small.yaml")
    study = Study(str(profile), tmp_path / "cluster")
    result = submit(profile, study.folder, environment)
    assert result.returncode == 0, result.stderr
    assert (study.results / "report" / "index.html").exists()
    found = asked_and_became(jobs)
    assert {job["state"] for job in found} == {"COMPLETED"}
    assert sum(job["asked"]["--comment"].startswith("rule_train") for job in found) == len(study.runs)


def both_ways(study, run, tmp_path) -> tuple[dict, dict]:
    """The checkpoints after the last step: of one process, and of two that shared the batches."""
    train_run(study, run, tmp_path, lambda *_: None, lambda: False)
    alone = _load_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu"))
    shared = tmp_path / "shared"
    shared.mkdir()
    write_json(shared / "declaration.json", run.model_dump(mode="json"))
    data_parallel.advance(shared, "smoke", study.folder, 2, "shared")
    return alone, _load_checkpoint(shared / "checkpoint.pt", torch.device("cpu"))


def shortened(run, steps: int):
    schedule = run.schedule.model_copy(update={"steps": steps, "validations": 1})
    return run.model_copy(update={"schedule": schedule, "precision": "float32"})


@pytest.mark.parametrize("method", ["student", "attention_transfer"])
def test_two_processes_step_by_the_gradient_of_the_whole_batch(study, tmp_path, method):
    """Adam's first moment after one step is a tenth of the gradient; attention transfer leaves some layers without any."""
    runs = study.methods(CELL, 0)
    trained(study, runs["teacher"])
    alone, shared = both_ways(study, shortened(runs[method], 1), tmp_path)
    moments = [{n: s["exp_avg"] for n, s in c["optimizer"]["state"].items()} for c in (alone, shared)]
    assert moments[0].keys() == moments[1].keys()
    largest = max(float(m.abs().max()) for m in moments[0].values())
    assert largest > 0
    for name, expected in moments[0].items():
        torch.testing.assert_close(moments[1][name], expected, rtol=1e-4, atol=1e-5 * largest)
    assert shared["loss_sum"] == alone["loss_sum"] == 0 and shared["rows"][0]["training_loss"] == pytest.approx(
        alone["rows"][0]["training_loss"], rel=1e-5
    )


def test_two_processes_end_where_one_does(study, tmp_path):
    alone, shared = both_ways(study, shortened(study.methods(CELL, 0)["student"], 60), tmp_path)
    values = [c["rows"][-1]["validation_psnr"] for c in (alone, shared)]
    assert alone["rows"][-1]["step"] == shared["rows"][-1]["step"] == 60
    assert values[0] == pytest.approx(values[1], abs=0.02), "dB; rounding, which Adam enlarges"


def test_losses_that_need_the_whole_batch_stay_in_one_process(study):
    runs = study.recipe("feature_losses", 0).comparison(["similarity_preserving", "correlation_congruence", "fitnets"])
    first_stage = {label: run.start for label, run in runs.items() if run.start}
    processes = {label: processes_for(run, 2) for label, run in first_stage.items()}
    assert processes == {"Similarity preserving": 1, "Correlation congruence": 1, "FitNets": 2}
    released = LossTerm(loss="attention_transfer", options={"pairs": [["a", "b"]], "variant": "released"})
    run = study.methods(CELL, 0)["student"]
    assert processes_for(run.model_copy(update={"objective": (released,)}), 2) == 1
    with pytest.raises(StudyError, match="3 processes can't share a batch of 2"):
        processes_for(run, 3)


@pytest.fixture
def pair(study, tmp_path):
    """A training of two processes and some seconds, and the command that starts it."""
    profile = small_profile(tmp_path / "pair.yaml", 600, processes=2)
    study = Study(str(profile), study.folder)
    run = study.methods(CELL, 0)["student"]
    command = [sys.executable, "-m", "kdmri_lib", "train", "--profile", str(profile), "--folder", str(study.folder)]
    return study, RunFolder(study, run), [*command, run.id]


def begun(process, folder: RunFolder) -> list[psutil.Process]:
    """The workers, once their checkpoint shows that they train."""
    until_it_trains(process, folder.path)
    assert process.poll() is None
    everyone = psutil.Process(process.pid).children(recursive=True)
    return [
        p
        for p in everyone
        if p.cmdline()[1:3] != ["-m", "torch.distributed.run"] and "data_parallel" in str(p.cmdline())
    ]


def test_a_killed_worker_is_started_again_and_nothing_is_lost(pair, study, tmp_path):
    pair_study, folder, command = pair
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    workers = begun(process, folder)
    assert len(workers) == 2
    workers[1].kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert read_json(folder.path / "run.json")["processes"] == 2
    whole = sharing_data(pair_study.source, tmp_path / "whole", study)
    expected = trained(whole, folder.run).path / WEIGHTS
    assert (folder.path / WEIGHTS).read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them(pair, number):
    _, folder, command = pair
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    workers = begun(process, folder)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    _, left = psutil.wait_procs(workers, 20)
    assert not left
    done = _load_checkpoint(folder.path / "checkpoint.pt", torch.device("cpu"))["step"]
    assert done < folder.run.schedule.steps, "they ended before their training did"
    assert (folder.path / "checkpoint.pt").exists() and not (folder.path / "run.json").exists()
    if number == signal.SIGTERM:
        assert process.returncode == 130 and "start again to go on from its checkpoint" in errors
