"""What the tests of faults share: commands, and the digests of what they leave."""

import sys
from pathlib import Path

from kdmri_lib.storage import sha256_file
from kdmri_study.runs import CURVE, SLICES, VOLUMES, WEIGHTS


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for pattern in patterns for p in sorted(folder.glob(pattern))}


def of_run(folder: Path) -> dict[str, str]:
    return digests(folder, WEIGHTS, CURVE, VOLUMES, SLICES)


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "kdmri_lib", *map(str, arguments)]
