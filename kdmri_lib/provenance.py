"""Where a result came from: which code, libraries, machine; and whether that is still what is here now."""

import ast
import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from kdmri_lib.declarations import Dataset, Run

PACKAGE = Path(__file__).parent
LIBRARIES = ("torch", "numpy", "scipy", "scikit-image", "h5py", "lightning-fabric")

# What tables and figures depend on, beside the runs they are made from.
PRESENTING_CODE = ("evaluation.py", "statistics.py", "tables.py", "figures.py", "report.py", "study.py", "recipes.py")


def preparing_code(dataset: Dataset) -> str:
    """Fingerprint of what a prepared file's numbers depend on beside its declaration: its source, and what that imports."""
    found: set[str] = {"datasets/writing.py"}
    waiting = [f"datasets/{dataset.source}.py"]
    while waiting:
        file = waiting.pop()
        if file in found or not (PACKAGE / file).exists():
            continue
        found.add(file)
        for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if module.startswith(("kdmri_lib.datasets.", "kdmri_lib.fourier")):
                waiting.append(module.removeprefix("kdmri_lib.").replace(".", "/") + ".py")
    return code_fingerprint(tuple(sorted(found)))


def training_code(run: Run) -> tuple[str, ...]:
    """The files that a run's numbers depend on: the shared ones, its network's and its losses', and no other loss's."""
    losses = {"reconstruction", *(term.loss for term in run.objective)}
    if "attentive_imitation" in losses:
        losses.add("attentive_hint")  # which holds the weighting of both
    networks = {run.network.kind, "dccnn"} if run.network.kind == "student_friendly" else {run.network.kind}
    return (
        *("declarations.py", "fourier.py", "sampling.py", "training.py", "evaluation.py"),
        *("datasets/prepared.py", "losses/__init__.py"),
        *("models/__init__.py", "models/data_consistency.py", "models/features.py"),
        *(f"models/{network}.py" for network in sorted(networks)),
        *(f"losses/{loss}.py" for loss in sorted(losses)),
    )


def _without_prose(source: str) -> str:
    """The syntax tree as text: comments, docstrings and layout don't count as a change of code."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


@cache
def code_fingerprint(parts: tuple[str, ...]) -> str:
    """12 hex digits over the named files and folders of the package, prose left out; a file that isn't there is skipped."""
    digest = hashlib.sha256()
    for part in parts:
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path] * path.exists():
            digest.update(f"{file.relative_to(PACKAGE)}\n{_without_prose(file.read_text())}\n".encode())
    return digest.hexdigest()[:12]


def git_commit() -> str:
    """The checkout's commit, with "+changes" when files differ from it; "unknown" outside a checkout."""
    try:
        commands = (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        commit, changes = (
            subprocess.run(["git", "-C", PACKAGE, *c], capture_output=True, text=True, check=True).stdout.strip()
            for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


def processor_name() -> str:
    """Marketing name of the CPU where the system tells it, and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def environment() -> dict:
    """What a run folder records about the checkout, the libraries and the machine."""
    return {
        "commit": git_commit(),
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "processor": processor_name(),
    }
