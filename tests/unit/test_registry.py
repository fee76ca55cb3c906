"""Things known by name: a file each, found when they are asked for."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import LOSSES
from kdmri_lib.models.base import MODELS
from kdmri_lib.registry import Registry
from kdmri_lib.storage import PROJECT

FILE = """
from {package} import REGISTRY, imported

imported.append("{name}")


@REGISTRY.register("{name}")
def function():
    return "{name}"
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of its own, whose registry's files apple and pear register a function each, and core nothing."""
    name = re.sub(r"\W", "_", tmp_path.name)  # another for each test, since Python remembers what it imported
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text(
        f"from kdmri_lib.registry import Registry\nREGISTRY, imported = Registry('fruit', '{name}'), []\n"
    )
    for file in ("apple", "pear"):
        (folder / f"{file}.py").write_text(FILE.format(package=name, name=file))
    (folder / "core.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return import_module(name)


def test_only_the_file_that_is_asked_for_is_imported(package):
    assert package.REGISTRY.find("pear")() == "pear"
    assert package.imported == ["pear"]


def test_all_files_are_imported_when_all_are_asked_for(package):
    assert {name: found() for name, found in package.REGISTRY.all().items()} == {"apple": "apple", "pear": "pear"}
    assert sorted(package.imported) == ["apple", "pear"]


def test_a_file_is_added_and_nothing_else(package):
    path = Path(package.__file__).parent / "quince.py"
    path.write_text(FILE.format(package=package.__name__, name="quince"))
    assert package.REGISTRY.find("quince")() == "quince"


@pytest.mark.parametrize("name", ["plum", "core", "", "../apple", "apple.function", "os", "a b"])
def test_an_unknown_name_is_an_error_with_those_that_there_are(package, name):
    with pytest.raises(StudyError, match=f"unknown fruit '{name}'; known: apple, pear"):
        package.REGISTRY.find(name)


def test_a_later_one_of_the_same_name_replaces_it_and_removing_forgets_it(package):
    registry = package.REGISTRY

    @registry.register("apple")
    def mine():
        return "mine"

    assert registry.find("apple") is mine, "what is registered by hand needs no file"
    assert package.imported == []
    registry.register("apple")(str)
    assert registry.find("apple") is str
    registry.register("banana")(int)
    registry.remove("banana")
    registry.remove("banana")
    with pytest.raises(StudyError, match="unknown fruit 'banana'"):
        registry.find("banana")


def test_what_all_gives_is_a_copy(package):
    package.REGISTRY.all().clear()
    assert set(package.REGISTRY.all()) == {"apple", "pear"}


@pytest.mark.parametrize(
    ("registry", "not_registered"),
    [
        (LOSSES, {"base", "objective"}),
        (MODELS, {"base", "bicubic", "data_consistency", "expansion"}),
    ],
)
def test_every_file_of_the_study_registers_what_it_is_named_after(registry: Registry, not_registered):
    folder = PROJECT / registry.package.replace(".", "/")
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert set(registry.all()) == files - not_registered
