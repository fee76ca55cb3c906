"""Features by name: what every network checks before it runs."""

from collections.abc import Collection, Sequence

from kdmri_lib.errors import StudyError


def check_features(asked: Collection[str], known: Sequence[str]) -> None:
    """`StudyError` for names that a network doesn't have."""
    unknown = set(asked) - set(known)
    if unknown:
        raise StudyError(f"no feature {sorted(unknown)}; this network has {known[0]} to {known[-1]}")
