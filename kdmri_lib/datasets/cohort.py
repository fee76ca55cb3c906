"""Generated subjects: numbered, split, and each made from the data set's seed and its number alone."""

from collections.abc import Iterator

from kdmri_lib.declarations import Dataset


def numbered_subjects(dataset: Dataset, prefix: str) -> Iterator[tuple[str, str, dict]]:
    """Yield (split, subject, {"number": n}) for the declared volumes of each split, n from 1."""
    number = 0
    for split in ("train", "validation", "test"):
        for _ in range(getattr(dataset, split)):
            number += 1
            yield split, f"{prefix}{number:03d}", {"number": number}
