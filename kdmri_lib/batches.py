"""Which slices, or strips of slices, a training step sees: a function of the seed and the step, nothing else."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kdmri_lib.datasets.prepared import Slices


class Batches:
    """Batch number `step` of an endless shuffled stream of slices, (batch, C, H, W).

    With `strip`, each sample is a random strip of that extent along `axis` (2 rows, 3 columns of (B, C, H, W)), which the
    mask must sample fully. `images` may be a tensor (slices, C, H, W) or `Slices` that are read from their file.
    """

    def __init__(self, images: Tensor | Slices, batch: int, seed: int, strip: int | None = None, axis: int = 3):
        self.images, self.batch, self.seed, self.axis = images, batch, seed, axis
        self.strip = None if strip is None or strip >= images.shape[axis] else strip
        self.order = lru_cache(maxsize=2)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(images)))

    def chosen(self, step: int) -> list[int]:
        """Which slices the batch holds."""
        positions = range(step * self.batch, (step + 1) * self.batch)
        return [int(self.order(p // len(self.images))[p % len(self.images)]) for p in positions]

    def __call__(self, step: int) -> Tensor:
        return self.cut(self.images, step)

    def cut(self, images, step: int) -> Tensor:
        """The same batch, cut alike, of something else that is known for each slice, (slices, K, H, W)."""
        chosen = self.chosen(step)
        if self.strip is None:
            return images[chosen]
        offsets = np.random.default_rng([self.seed, step, 1]).integers(
            0, self.images.shape[self.axis] - self.strip + 1, self.batch
        )
        strips = [images[n].narrow(self.axis - 1, int(o), self.strip) for n, o in zip(chosen, offsets, strict=True)]
        return torch.stack(strips)
