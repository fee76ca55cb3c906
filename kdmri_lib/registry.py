"""Things known by name, a file each: a loss or a model is added by adding its file, and nothing else.

Options from declarations are checked by the signature of what takes them: names, types and ranges.
"""

import inspect
from collections.abc import Callable, Collection
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from kdmri_lib.errors import StudyError


class Registry:
    """What is registered by name, in a file of that name below `package`, imported when it is asked for, or anywhere else
    such as in a notebook's cell. `what` : what one of them is called in messages, such as "loss"."""

    def __init__(self, what: str, package: str):
        self.what, self.package = what, package
        self._known: dict[str, Callable] = {}

    def register(self, name: str) -> Callable:
        """Decorator that makes a class or function known by `name`; a later one of the same name replaces it."""

        def add(item: Callable) -> Callable:
            self._known[name] = item
            return item

        return add

    def find(self, name: str) -> Callable:
        """What is registered by `name`; `StudyError` says which names there are."""
        if name not in self._known and name.isidentifier() and find_spec(f"{self.package}.{name}"):
            import_module(f"{self.package}.{name}")
        if name not in self._known:
            raise StudyError(f"unknown {self.what} '{name}'; known: {', '.join(sorted(self.all()))}")
        return self._known[name]

    def all(self) -> dict[str, Callable]:
        """Everything registered, by name, all files of the package imported."""
        for module in iter_modules(import_module(self.package).__path__):
            import_module(f"{self.package}.{module.name}")
        return dict(self._known)

    def remove(self, name: str) -> None:
        """Forget what is registered by `name`."""
        self._known.pop(name, None)

    def build(self, name: str, options: dict[str, Any], **given):
        """Make what is registered by `name`, of what is `given` and of a declaration's `options` (`checked_options`)."""
        made = self.find(name)
        return made(**given, **checked_options(made, options, f"{self.what} '{name}'", given))


@cache
def _schema(function: Callable, given: frozenset[str]) -> type[BaseModel]:
    fields, extra = {}, "forbid"
    for p in inspect.signature(function).parameters.values():
        if p.kind is p.VAR_KEYWORD:
            extra = "allow"
        elif p.kind is not p.VAR_POSITIONAL and p.name not in given:
            annotation = Any if p.annotation is p.empty else p.annotation
            fields[p.name] = (annotation, ... if p.default is p.empty else p.default)
    config = ConfigDict(extra=extra, strict=True, arbitrary_types_allowed=True)
    return create_model("Options", __config__=config, **fields)


def checked_options(function: Callable, options: dict, what: str, given: Collection[str] = ()) -> dict[str, Any]:
    """`options` as keyword arguments for `function`, whose annotations say what each may be; what is `given` no declaration
    gives. `StudyError` for `what`, such as "loss 'imitation'", when one is unknown, missing, of another type or out of its
    range."""
    for key in sorted(options.keys() & set(given)):
        raise StudyError(f"{what}, option '{key}': isn't for a declaration to give")
    try:
        _schema(function, frozenset(given)).model_validate(options)
    except ValidationError as error:
        found = error.errors()[0]
        key = ".".join(map(str, found["loc"]))
        value = "" if found["type"] in ("missing", "extra_forbidden") else f", found {found['input']!r}"
        raise StudyError(f"{what}, option '{key}': {found['msg']}{value}") from None
    return dict(options)
