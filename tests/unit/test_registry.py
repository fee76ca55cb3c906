"""Things known by name: a file each, found when they are asked for; their options, checked by their signatures."""

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import LOSSES
from kdmri_lib.models.base import MODELS
from kdmri_lib.registry import Registry, checked_options
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


def test_a_file_is_added_and_nothing_else_and_only_what_is_asked_for_is_imported(package):
    path = Path(package.__file__).parent / "quince.py"
    path.write_text(FILE.format(package=package.__name__, name="quince"))
    assert package.REGISTRY.find("quince")() == "quince"
    assert package.imported == ["quince"]
    everything = {name: found() for name, found in package.REGISTRY.all().items()}
    assert everything == {name: name for name in ("apple", "pear", "quince")} and len(package.imported) == 3


@pytest.mark.parametrize("name", ["plum", "core", "", "../apple", "apple.function", "os", "a b"])
def test_an_unknown_name_is_an_error_with_those_that_there_are(package, name):
    with pytest.raises(StudyError, match=f"unknown fruit '{name}'; known: apple, pear"):
        package.REGISTRY.find(name)


def test_what_is_registered_by_hand_needs_no_file_and_the_last_of_a_name_counts(package):
    registry = package.REGISTRY
    for item in (str, int):
        assert registry.register("apple")(item) is item
        assert registry.find("apple") is item
    assert package.imported == []


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


def checked(**options):
    def function(given, needed: Sequence[int], count: Annotated[int, Field(ge=1, le=9)] = 5, free=None): ...

    return checked_options(function, options, "thing 'x'", given=("given",))


def test_options_that_fit_come_back_as_they_are():
    assert checked(needed=[]) == {"needed": []}
    options = {"needed": (1, 2), "count": 9, "free": object()}
    found = checked(**options)
    assert found is not options and all(found[key] is options[key] for key in options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "option 'needed': Field required"),
        ({"cuont": 3}, "option 'cuont': Extra inputs are not permitted"),
        ({"count": 0}, "option 'count': Input should be greater than or equal to 1, found 0"),
        ({"count": True}, "option 'count': Input should be a valid integer, found True"),
        ({"needed": [1, "2"]}, r"option 'needed\.1': Input should be a valid integer, found '2'"),
        ({"given": "mine"}, "option 'given': isn't for a declaration to give"),
    ],
)
def test_options_that_do_not_fit_are_errors_that_name_them(options, message):
    whole = options if options == {} or "needed" in options else {"needed": [1], **options}
    with pytest.raises(StudyError, match=f"^thing 'x', {message}"):
        checked(**whole)


def test_what_takes_any_further_option_is_given_it_unseen():
    def open_ended(given, count: int = 1, **further): ...

    options = {"count": 2, "further": 1, "whatever": [object()]}
    assert checked_options(open_ended, options, "thing 'x'", given=("given",)) == options
    with pytest.raises(StudyError, match="option 'count'"):
        checked_options(open_ended, {"count": "2"}, "thing 'x'", given=("given",))
