"""Cached teacher outputs: what a teacher makes of the training slices, asked once and cut to the strips that train.

The mask and the images of a training are fixed, and so is what a teacher makes of them. What losses that ask once take of
it (`kdmri_lib.losses.base.Loss.asks_once`) is therefore computed before the first step, on whole slices.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdmri_lib.datasets.prepared import HELD_BYTES
from kdmri_lib.storage import atomic_write

BATCH = 4  # slices that the teacher is asked at a time


def cached(
    ask: Callable[[Tensor, int], Tensor], images, known: int, file: Path, held_bytes: int = HELD_BYTES
) -> Tensor:
    """The outputs for all `images`: (slices, K, H, W) float32, on the images' device; mapped from `file` where they don't
    fit into `held_bytes`. `UnwritableError` when the file doesn't fit on the disk.

    Parameters
    ----------
    ask : from true images (B, C, H, W), and of how many of them the true image stands for the teacher's, to (B, K, H, W).
    images : (slices, C, H, W), a tensor or `Slices`.
    known : of how many of `images`, the first, the true image stands for the teacher's.
    """
    asked = (ask(part, min(max(known - n * BATCH, 0), len(part))).float() for n, part in enumerate(in_fours(images)))
    first = next(asked)
    shape = (len(images), *first.shape[1:])
    if 4 * prod(shape) > held_bytes:
        with atomic_write(file) as temporary, temporary.open("wb") as written:
            for part in chain([first], asked):
                written.write(part.cpu().numpy().tobytes())
        return torch.from_numpy(np.memmap(file, np.float32, "c", shape=shape))
    outputs = first.new_empty(shape)
    for place, part in zip(outputs.split(BATCH), chain([first], asked), strict=True):
        place.copy_(part)
    return outputs


def in_fours(images) -> Iterator[Tensor]:
    """`images` (slices, C, H, W), a tensor or `Slices`, a few slices at a time."""
    for first in range(0, len(images), BATCH):
        yield images[list(range(first, min(first + BATCH, len(images))))]
