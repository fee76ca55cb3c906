"""Options are checked by the signature of what takes them: names, types and ranges."""

from collections.abc import Sequence
from typing import Annotated, Literal

import pytest
from pydantic import Field

from kdmri_lib.errors import StudyError
from kdmri_lib.options import checked_options


def function(
    given,
    needed: Sequence[int],
    count: Annotated[int, Field(ge=1, le=9)] = 5,
    share: float = 0.5,
    kind: Literal["a", "b"] = "a",
    on: bool = False,
    free=None,
    maybe: str | None = None,
):
    return given, needed, count, share, kind, on, free, maybe


def checked(**options):
    return checked_options(function, options, "thing 'x'", given=("given",))


@pytest.mark.parametrize(
    "options",
    [
        {"needed": []},
        {"needed": (1, 2), "count": 9, "share": 1, "kind": "b", "on": True, "free": object(), "maybe": "m"},
        {"needed": [1], "share": float("inf"), "maybe": None},
    ],
)
def test_options_that_fit_come_back_as_they_are(options):
    found = checked(**options)
    assert found == options and found is not options
    assert all(found[key] is options[key] for key in options)
    assert function("mask", **found)[0] == "mask"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "option 'needed': Field required"),
        ({"cuont": 3}, "option 'cuont': Extra inputs are not permitted"),
        ({"count": 0}, "option 'count': Input should be greater than or equal to 1, found 0"),
        ({"count": 10}, "option 'count': Input should be less than or equal to 9, found 10"),
        ({"count": 3.0}, "option 'count': Input should be a valid integer, found 3.0"),
        ({"count": "3"}, "option 'count': Input should be a valid integer, found '3'"),
        ({"count": True}, "option 'count': Input should be a valid integer, found True"),
        ({"share": "0.5"}, "option 'share': Input should be a valid number, found '0.5'"),
        ({"share": True}, "option 'share': Input should be a valid number, found True"),
        ({"kind": "c"}, "option 'kind': Input should be 'a' or 'b', found 'c'"),
        ({"on": "yes"}, "option 'on': Input should be a valid boolean, found 'yes'"),
        ({"maybe": 3}, "option 'maybe': Input should be a valid string, found 3"),
        ({"needed": [1, "2"]}, r"option 'needed\.1': Input should be a valid integer, found '2'"),
        ({"needed": "12"}, "option 'needed': .* found '12'"),
        ({"given": "mine"}, "option 'given'"),
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
    with pytest.raises(StudyError, match="option 'given'"):
        checked_options(open_ended, {"given": 1}, "thing 'x'", given=("given",))


def test_a_class_is_checked_by_how_it_is_made():
    class Made:
        def __init__(self, size: Annotated[int, Field(gt=0)]):
            self.size = size

    assert Made(**checked_options(Made, {"size": 2}, "thing 'y'")).size == 2
    with pytest.raises(StudyError, match=r"thing 'y', option 'size': .* greater than 0, found 0"):
        checked_options(Made, {"size": 0}, "thing 'y'")
    with pytest.raises(StudyError, match="thing 'y', option 'self'"):
        checked_options(Made, {"size": 1, "self": 1}, "thing 'y'")
