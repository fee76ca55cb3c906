"""Cached teacher outputs: what a teacher makes of the training slices, asked once and cut to the strips that train.

The mask and the images of a training are fixed, and so is what a teacher makes of them. What losses that ask once take of
it (`kdmri_lib.losses.base.Loss.asks_once`) is therefore computed before the first step, on whole slices.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdmri_lib.datasets.prepared import HELD_BYTES
from kdmri_lib.errors import UnwritableError
from kdmri_lib.storage import reserve

BATCH = 4  # slices that the teacher is asked at a time


def cached(
    ask: Callable[[Tensor, int], Tensor], images, known: int, file: Path, held_bytes: int = HELD_BYTES
) -> Tensor:
    """The outputs for all `images`: (slices, K, H, W) float32, on the images' device; mapped from `file` where they don't
    fit into `held_bytes`.

    Parameters
    ----------
    ask : from true images (B, C, H, W), and of how many of them the true image stands for the teacher's, to (B, K, H, W).
    images : (slices, C, H, W), a tensor or `Slices`.
    known : of how many of `images`, the first, the true image stands for the teacher's.

    Raises
    ------
    UnwritableError
        When the file doesn't fit on the disk.
    """
    outputs = None
    for number, part in enumerate(in_fours(images)):
        found = ask(part, min(max(known - number * BATCH, 0), len(part))).float()
        if outputs is None:
            shape = (len(images), *found.shape[1:])
            if 4 * np.prod(shape) <= held_bytes:
                outputs = found.new_empty(shape)
            else:
                try:
                    reserve(file, 4 * int(np.prod(shape)))
                except OSError as error:
                    file.unlink(missing_ok=True)
                    raise UnwritableError(f"{file}: can't be written ({error.strerror})") from error
                outputs = torch.from_numpy(np.memmap(file, np.float32, "r+", shape=shape))
        outputs[number * BATCH : number * BATCH + len(part)] = found.to(outputs.device)
    return outputs


def in_fours(images) -> Iterator[Tensor]:
    """`images` (slices, C, H, W), a tensor or `Slices`, a few slices at a time."""
    for first in range(0, len(images), BATCH):
        yield images[list(range(first, min(first + BATCH, len(images))))]
