"""Notebooks that are executed: their parameters are data."""

import ast

import nbformat
import pytest

from kdmri_lib.errors import StudyError
from kdmri_study.workflow import execute

INJECTIONS = [
    '"; import pathlib; pathlib.Path("sprung").touch(); "',
    "'''\nimport pathlib\npathlib.Path('sprung').touch()\n'''",
    "!!python/object/apply:os.system ['touch sprung']",
    "$(touch sprung)",
    "/a: b",
]


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    """A notebook that shows its parameters, and what became of the values that it was given."""
    path = tmp_path_factory.mktemp("echo") / "echo.ipynb"
    names = [f"value_{n}" for n in range(len(INJECTIONS))]
    declared = "\n".join(f'{name} = ""' for name in (*names, "number", "listed"))
    cells = [nbformat.v4.new_code_cell(declared, metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell(f"print(ascii([{', '.join(names)}, number, listed]))"))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def test_a_notebooks_parameters_are_data(echo, tmp_path):
    given = {f"value_{n}": value for n, value in enumerate(INJECTIONS)} | {"number": "3", "listed": "[a, 2]"}
    execute(echo, tmp_path / "out.ipynb", given)
    shown = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs[0].text.strip()
    assert ast.literal_eval(shown) == [*INJECTIONS, 3, ["a", 2]]
    assert not list(echo.parent.glob("sprung")) and not list(tmp_path.glob("sprung"))


def test_a_parameters_name_cannot_be_code(echo, tmp_path):
    with pytest.raises(StudyError, match="has no parameter import os; x"):
        execute(echo, tmp_path / "out.ipynb", {"import os; x": "1"})
    with pytest.raises(StudyError, match=r"nothing.ipynb: no such notebook"):
        execute(tmp_path / "nothing.ipynb", tmp_path / "out.ipynb", {})
