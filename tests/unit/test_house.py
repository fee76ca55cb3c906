"""The house in order: dependencies, pins, notebooks without outputs and with short set-ups."""

import ast
import importlib.metadata
import json
import tomllib

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from kdmri_lib.storage import PROJECT

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def wanted() -> list[str]:
    """Every dependency of pyproject.toml, optional ones included."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(name for names in project["optional-dependencies"].values() for name in names)]


def test_environment_yml_equals_pyproject(wanted):
    listed = next(
        d["pip"]
        for d in yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
        if isinstance(d, dict)
    )
    assert sorted(listed) == sorted(["-c constraints.txt", "-e .", *wanted])


def test_the_two_commands_install_every_optional_dependency():
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"-e '.[{','.join(sorted(groups))}]'" in (PROJECT / "environment.sh").read_text()


def test_constraints_pin_every_dependency(wanted):
    pins = {
        line.split("==")[0].lower() for line in (PROJECT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert {name.split("==")[0] for name in wanted} <= pins


def test_every_pin_installs_on_the_oldest_python_that_is_promised():
    """As installed here: a pin whose package asks for a later patch of 3.11 leaves a user of Debian's without anything."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    asks = {d.name: d.metadata["Requires-Python"] for d in importlib.metadata.distributions()}
    assert len(asks) > 100
    assert {n: python for n, python in asks.items() if python and f"{oldest}.0" not in SpecifierSet(python)} == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_carry_no_outputs_and_declare_parameters(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    assert cells[0]["cell_type"] == "markdown", "a notebook begins by saying what it is"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_cells_that_set_a_notebook_up_are_short(path):
    code = ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    setting_up = [
        cell for cell in code if any(isinstance(n, ast.Import | ast.ImportFrom) for n in ast.parse(cell).body)
    ]
    assert setting_up and max(len(cell.splitlines()) for cell in setting_up) <= 24, "folded, but read all the same"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_fold_their_imports_and_explain_their_parameters(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    importing = [
        cell
        for cell in code
        if any(isinstance(n, ast.Import | ast.ImportFrom) for n in ast.parse("".join(cell["source"])).body)
    ]
    assert len(importing) == 1 and importing[0]["metadata"]["jupyter"]["source_hidden"]
    parameters = next(cell for cell in code if "parameters" in cell["metadata"].get("tags", []))
    before = "".join(cells[cells.index(parameters) - 1]["source"])
    names = [n.targets[0].id for n in ast.parse("".join(parameters["source"])).body if isinstance(n, ast.Assign)]
    assert all(f"`{name}`" in before for name in names), f"{names} explained just before"


def test_the_three_places_that_strip_notebooks_do_the_same():
    wanted = "-m nbstripout --keep-id --extra-keys metadata.language_info"
    for name in ("environment.sh", ".pre-commit-config.yaml"):
        assert wanted in (PROJECT / name).read_text()
    assert "*.ipynb filter=nbstripout" in (PROJECT / ".gitattributes").read_text()
    for path in NOTEBOOKS:
        metadata = json.loads(path.read_text())["metadata"]
        assert metadata == {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        }, "as JupyterLab saves it"
