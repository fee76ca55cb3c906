"""Small studies that tests of faults and of clusters run in processes of their own."""

import subprocess
import time
from pathlib import Path

import yaml

from kdmri_lib.storage import PROJECT
from kdmri_study.experiments.table1 import METHODS
from kdmri_study.profile import Cell
from kdmri_study.study import Study

CELL = Cell("cardiac", 8)
BESIDE = ["steps", "whole"]  # of Table 1, beside the paper's rows: what these studies have of it
ROWS = list(METHODS)[:7]
PROFILES = sorted(p.stem for p in (PROJECT / "profiles").glob("*.yaml"))


def small_profile(path: Path, steps: int = 6, cardiac: dict | None = None, **more) -> Path:
    """Profile smoke with one cell, trainings of so many steps, and these changes to its phantoms and to the profile."""
    profile = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())
    phantoms = profile["datasets"]["cardiac"] | (cardiac or {})
    profile |= {"cells": {"cardiac": [8]}, "experiments": {}, "datasets": {"cardiac": phantoms}, "beside": BESIDE}
    profile["schedule"].update(steps=steps, validations=max(2, steps // 10))
    path.write_text(yaml.safe_dump(profile | more))
    return path


def sharing_data(profile: str | Path, folder: Path, study: Study) -> Study:
    """A study of `profile` in `folder`, on the prepared data of another."""
    new = Study(str(profile), folder)
    new.prepared("cardiac").parent.mkdir(parents=True, exist_ok=True)
    new.prepared("cardiac").symlink_to(study.prepared("cardiac"))
    return new


def until_it_trains(process: subprocess.Popen, folder: Path) -> None:
    """Wait for the checkpoint which shows that the run of `folder` trains, or for the process to end."""
    while process.poll() is None and not (folder / "checkpoint.pt").exists():
        time.sleep(0.02)


def with_downloads(name: str, folder: Path) -> str:
    """A profile's name or, where it reads downloads, the path of a copy of it whose empty folders are there."""
    text = (PROJECT / "profiles" / f"{name}.yaml").read_text()
    if "data/downloads" not in text:
        return name
    for dataset in yaml.safe_load(text)["datasets"].values():
        (folder / Path(dataset["folder"]).name).mkdir()
    copy = folder / f"{name}.yaml"
    copy.write_text(text.replace("data/downloads", str(folder)))
    return str(copy)
