"""Things known by name, a file each: a loss or a model is added by adding its file, and nothing else."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

from kdmri_lib.errors import StudyError


class Registry:
    """What is registered by name, in a file of that name below `package`, or anywhere else such as in a notebook's cell.

    Parameters
    ----------
    what : what one of them is called in messages, such as "loss".
    package : name of the package whose modules each register what they are named after, imported when it is asked for.
    """

    def __init__(self, what: str, package: str):
        self.what, self.package = what, package
        self._known: dict[str, object] = {}

    def register(self, name: str) -> Callable:
        """Decorator that makes a class or function known by `name`; a later one of the same name replaces it."""

        def add(item):
            self._known[name] = item
            return item

        return add

    def find(self, name: str):
        """What is registered by `name`; `StudyError` says which names there are."""
        if name not in self._known and name.isidentifier() and find_spec(f"{self.package}.{name}"):
            import_module(f"{self.package}.{name}")
        if name not in self._known:
            raise StudyError(f"unknown {self.what} '{name}'; known: {', '.join(sorted(self.all()))}")
        return self._known[name]

    def all(self) -> dict[str, object]:
        """Everything registered, by name, all files of the package imported."""
        for module in iter_modules(import_module(self.package).__path__):
            import_module(f"{self.package}.{module.name}")
        return dict(self._known)

    def remove(self, name: str) -> None:
        """Forget what is registered by `name`."""
        self._known.pop(name, None)
