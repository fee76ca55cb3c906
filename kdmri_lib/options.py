"""Options from declarations, checked by the signature of what takes them: names, types and ranges."""

import inspect
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

from pydantic import ConfigDict, ValidationError, create_model

from kdmri_lib.errors import StudyError


@cache
def _schema(function: Callable, given: frozenset[str]):
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in given]
    fields = {
        p.name: (Any if p.annotation is p.empty else p.annotation, ... if p.default is p.empty else p.default)
        for p in named
    }
    extra = "allow" if any(p.kind is p.VAR_KEYWORD for p in parameters) else "forbid"
    return create_model(
        "Options", __config__=ConfigDict(extra=extra, strict=True, arbitrary_types_allowed=True), **fields
    )


def checked_options(function: Callable, options: dict, what: str, given: Collection[str] = ()) -> dict[str, Any]:
    """`options` as keyword arguments for `function`, whose annotations say what each may be.

    Parameters
    ----------
    what : whose options these are, for messages, such as "loss 'imitation'".
    given : parameters that don't come from a declaration.

    Raises
    ------
    StudyError
        When an option is unknown, missing, of another type or out of its range; the message names it.
    """
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
