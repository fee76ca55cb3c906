"""The house in order: dependencies, pins, notebooks without outputs and with short set-ups."""

import ast
import importlib.metadata
import json
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from setuptools import find_packages

from kdmri_lib.storage import PROJECT

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


def test_environment_yml_the_two_commands_and_the_pins_have_every_dependency_of_pyproject():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(name for names in groups.values() for name in names)]
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    listed = next(d["pip"] for d in environment if isinstance(d, dict))
    assert sorted(listed) == sorted(["-c constraints.txt", "-e .", *wanted])
    assert f"-e '.[{','.join(sorted(groups))}]'" in (PROJECT / "environment.sh").read_text()
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    assert {name.split("==")[0] for name in wanted} <= {line.split("==")[0].lower() for line in lines if "==" in line}


def test_every_pin_installs_on_the_oldest_python_that_is_promised():
    """As installed here: a pin whose package asks for a later patch of 3.11 leaves a user of Debian's without anything."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    asks = {d.name: d.metadata["Requires-Python"] for d in importlib.metadata.distributions()}
    assert len(asks) > 100
    assert {n: python for n, python in asks.items() if python and f"{oldest}.0" not in SpecifierSet(python)} == {}


def test_what_the_library_imports_is_installed_without_the_study_and_a_wheel_holds_nothing_else():
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    groups = settings["project"]["optional-dependencies"]
    of_library = (groups[g] for g in groups if g not in ("study", "test"))
    installed = {n.split("==")[0] for names in (settings["project"]["dependencies"], *of_library) for n in names}
    known, imported = importlib.metadata.packages_distributions(), set()
    for path in (PROJECT / "kdmri_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                imported |= {name.partition(".")[0] for name in names}
    others = imported - {*sys.stdlib_module_names, "kdmri_lib"}
    assert {name for name in others if not installed & {d.lower() for d in known[name]}} == set()
    found = find_packages(PROJECT, include=settings["tool"]["setuptools"]["packages"]["find"]["include"])
    assert "kdmri_lib.datasets.sources" in found and {name.partition(".")[0] for name in found} == {"kdmri_lib"}


def test_losses_are_imported_without_what_takes_seconds():
    """Beside what PyTorch imports itself."""
    slow = ["h5py", "matplotlib", "nibabel", "pandas", "scipy", "skimage"]
    files = (PROJECT / "kdmri_lib" / "losses").glob("[!_]*.py")
    names = ", ".join(f"kdmri_lib.losses.{path.stem}" for path in files)
    code = (
        f"import sys, torch; before = {{*sys.modules}}; import {names}; print({{*{slow}}} & {{*sys.modules}} - before)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert told.stdout.strip() == "set()"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_carry_no_outputs_fold_short_imports_and_explain_their_parameters(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert cells[0]["cell_type"] == "markdown", "a notebook begins by saying what it is"
    statements = {number: ast.parse("".join(cell["source"])).body for number, cell in enumerate(code)}
    imports = [n for n, body in statements.items() if any(isinstance(s, ast.Import | ast.ImportFrom) for s in body)]
    assert len(imports) == 1 and code[imports[0]]["metadata"]["jupyter"]["source_hidden"]
    assert len("".join(code[imports[0]]["source"]).splitlines()) <= 24, "folded, but read all the same"
    (parameters,) = (n for n, cell in enumerate(code) if "parameters" in cell["metadata"].get("tags", []))
    before = "".join(cells[cells.index(code[parameters]) - 1]["source"])
    names = [s.targets[0].id for s in statements[parameters] if isinstance(s, ast.Assign)]
    assert all(f"`{name}`" in before for name in names), f"{names} explained just before"
