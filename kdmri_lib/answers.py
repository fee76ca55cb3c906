"""A teacher's answers to the training slices: asked once, kept in a file beside the run, cut to the strips that train.

The mask and the images of a training are fixed, and so is what a teacher makes of them. What losses that ask once take of
it (`kdmri_lib.losses.base.Loss.asks_once`) is therefore computed before the first step, on whole slices. The file may be
deleted at any time; it is made again.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdmri_lib.datasets.prepared import HELD_BYTES
from kdmri_lib.errors import StudyError
from kdmri_lib.storage import atomic_write, read_json, sha256_file, write_json

FILE = "teacher_answers.npy"
BATCH = 4  # slices that the teacher is asked at a time


class Answers:
    """(slices, K, H, W) float32: held on a device where they fit into `held_bytes`, else read when a batch asks."""

    def __init__(self, path: Path, device: torch.device, held_bytes: int = HELD_BYTES):
        mapped = np.load(path, mmap_mode="r")
        self.shape, self.device = mapped.shape, device
        self._held = torch.from_numpy(np.load(path)).to(device) if mapped.nbytes <= held_bytes else None
        self._mapped = mapped if self._held is None else None

    def __getitem__(self, chosen: int | list[int]) -> Tensor:
        if self._held is not None:
            return self._held[chosen]
        return torch.from_numpy(np.array(self._mapped[chosen])).to(self.device)


def answered(
    folder: Path,
    ask: Callable[[Tensor, int], Tensor],
    images,
    origin: str,
    device: torch.device,
    known: int = 0,
    held_bytes: int = HELD_BYTES,
) -> Answers:
    """The answers to all `images`, from the file in `folder` where it is whole and of the same origin; asked for otherwise.

    Parameters
    ----------
    ask : from true images (B, C, H, W), and of how many of them the true image is the answer, to answers (B, K, H, W).
    images : (slices, C, H, W), a tensor or `Slices`.
    known : of how many of `images`, the first, the true image is the answer.
    origin : digest of what the answers depend on: teacher, data, mask, losses.

    Raises
    ------
    UnwritableError
        When the file doesn't fit on the disk; nothing of it is left.
    """
    path = folder / FILE
    about = path.with_suffix(".json")
    if path.exists():
        wrong = _wrong(path, about, origin)
        if not wrong:
            return Answers(path, device, held_bytes)
        print(f"kdmri: {path}: {wrong}; the teacher is asked again", file=sys.stderr)
    about.unlink(missing_ok=True)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        for number, part in enumerate(in_fours(images)):
            answers = ask(part, min(max(known - number * BATCH, 0), len(part))).cpu().numpy()
            if number == 0:
                shape = (len(images), *answers.shape[1:])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(answers, dtype="<f4").data)
    write_json(about, {"origin": origin, "sha256": sha256_file(path)})
    return Answers(path, device, held_bytes)


def forget(folder: Path) -> None:
    """Delete the answers of a training that has ended, or that begins anew."""
    for file in (folder / FILE, (folder / FILE).with_suffix(".json")):
        file.unlink(missing_ok=True)


def in_fours(images) -> Iterator[Tensor]:
    """`images` (slices, C, H, W), a tensor or `Slices`, a few slices at a time."""
    for first in range(0, len(images), BATCH):
        yield images[list(range(first, min(first + BATCH, len(images))))]


def _wrong(path: Path, about: Path, origin: str) -> str:
    """Why the file can't be used; empty where it can."""
    try:
        found = read_json(about)
    except StudyError:
        return "nothing says what it holds"
    if found.get("origin") != origin:
        return "of another teacher, or of other images or losses"
    return "" if sha256_file(path) == found.get("sha256") else "cut short or altered (its checksum is wrong)"
