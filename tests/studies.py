"""Small studies that tests of faults and of clusters run in processes of their own."""

import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import yaml

from kdmri_lib.declarations import Run
from kdmri_lib.storage import PROJECT, sha256_file
from kdmri_study.paper import METHODS
from kdmri_study.profile import Setting, Study

SETTING, JOB = Setting("cardiac", 8), "cardiac_8x_seed0"
BESIDE = ["steps", "whole"]  # of Table 1, beside the paper's rows: what these studies have of it
ROWS = list(METHODS)[:7]
LARGE = "earlier"  # a profile of nine settings and most experiments, at the paper's sizes
PROFILES = sorted(p.stem for p in (PROJECT / "profiles").glob("*.yaml"))


def small_profile(path: Path, steps: int = 6, cardiac: dict | None = None, **more) -> Path:
    """Profile smoke with one setting, trainings of so many steps, and these changes to its phantoms and to the profile."""
    profile = yaml.safe_load((PROJECT / "profiles" / "smoke.yaml").read_text())
    phantoms = profile["datasets"]["cardiac"] | (cardiac or {})
    profile |= {"settings": {"cardiac": [8]}, "experiments": {}, "datasets": {"cardiac": phantoms}, "beside": BESIDE}
    profile["schedule"].update(steps=steps, validations=max(2, steps // 10))
    path.write_text(yaml.safe_dump(profile | more))
    return path


def runs_of(study: Study, setting: Setting = SETTING, seed: int = 0) -> dict[str, Run]:
    """The runs of a setting of Table 1, by row."""
    return {name: row.run for name, row in study.rows(setting, seed).items()}


def sharing_data(profile: str | Path, folder: Path, study: Study) -> Study:
    """A study of `profile` in `folder`, on the prepared data of another."""
    new = Study(str(profile), folder)
    prepared = new.prepared(new.dataset("cardiac"))
    prepared.parent.mkdir(parents=True, exist_ok=True)
    prepared.symlink_to(study.prepared(study.dataset("cardiac")))
    return new


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


def clone_of_project(folder: Path) -> Path:
    """A clone of the project as it stands, whose environment is the one that runs the tests."""
    here = ["git", "--git-dir", folder / ".git", "--work-tree", PROJECT]
    bin_folder, quoted = shlex.quote(str(Path(sys.executable).parent)), shlex.quote(str(folder))
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    subprocess.run([*here, "add", "--all"], check=True)
    subprocess.run(["git", "checkout-index", "--all", "--quiet"], cwd=folder, check=True)
    (folder / "environment.sh").write_text(f'export PATH={bin_folder}:"$PATH" PYTHONPATH={quoted}\n')
    who = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    subprocess.run(["git", *who, "commit", "--quiet", "--all", "--message", "The project"], cwd=folder, check=True)
    return folder


def run_all(clone: Path, *arguments, **more) -> subprocess.Popen:
    """./run_all.sh, as from a terminal: a shell can't trap what was ignored when it started, as test workers do."""
    normal = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "preexec_fn": normal} | more
    return subprocess.Popen([clone / "run_all.sh", *map(str, arguments)], **how)


def logs(folder: Path) -> str:
    """The ends of what the jobs of the studies in a folder printed."""
    found = sorted(folder.glob("results/*/logs/*.txt"))
    return "".join(f"--- {path.name}\n{path.read_text()[-2000:]}\n" for path in found)


def command(*arguments) -> list[str]:
    """A command of the study's."""
    return [sys.executable, "-m", "kdmri_study", *map(str, arguments)]


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    """SHA-256 of the files that match, by path."""
    return {str(p.relative_to(folder)): sha256_file(p) for pattern in patterns for p in sorted(folder.glob(pattern))}


def made(study: Study) -> dict:
    """What must come out the same: prepared data, weights, evidence without what was measured, tables without times."""
    found = digests(study.folder, "data/prepared/*.h5", "results/*/runs/*/*.safetensors", "results/*/evidence/*/*.xz")
    for path in (*study.results.glob("evidence/*/runs.csv"), *study.results.glob("tables/*.csv")):
        table = pd.read_csv(path).drop(columns=["seconds", "hours", "commit"], errors="ignore")
        found[f"{path.parent.name}/{path.name}"] = table.to_csv()
    return found
