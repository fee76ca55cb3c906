"""Which slices, or strips of slices, a training step sees, at which phase: a function of the seed and the step alone."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kdmri_lib.channels import turned
from kdmri_lib.datasets.prepared import Slices


class Batches:
    """Batch number `step` of an endless shuffled stream of slices, (batch, C, H, W).

    With `strip`, each sample is a random strip of that extent along `axis` (2 rows, 3 columns of (B, C, H, W)), which the
    mask must sample fully. `images` may be a tensor (slices, C, H, W) or `Slices` that are read from their file.

    Complex samples (C = 2) are each turned by a random constant phase. Networks don't depend on one (`CommonPhase`), but
    losses of real and imaginary part do: they weigh an error by the phase that it happens to be at, and so all are equal.
    Not so where `images` says that it isn't to be (`turns`).
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
        if hasattr(self.images, "begin"):  # what draws at random when it is read, draws anew at each step
            self.images.begin(step)
        return self.phased(self.cut(self.images, step), step)

    def phased(self, shown: Tensor, step: int) -> Tensor:
        """The batch's images, or what begins with them, (batch, K, H, W), at the batch's phases; channels after the image's
        stay.

        So a teacher's answers to slices as they are become those to the batch: its image turns as its input does, its
        attention maps don't change (`CommonPhase`).
        """
        channels = self.images.shape[1]
        if channels == 1 or not getattr(self.images, "turns", True):
            return shown
        angles = np.random.default_rng([self.seed, step, 3]).uniform(0, 2 * np.pi, self.batch)
        return torch.cat((turned(shown[:, :channels], angles), shown[:, channels:]), dim=1)

    def cut(self, images, step: int) -> Tensor:
        """The same batch, cut alike, of something else that is known for each slice, (slices, K, H, W)."""
        chosen = self.chosen(step)
        if self.strip is None:
            return images[chosen]
        places = self.images.shape[self.axis] - self.strip + 1
        offsets = np.random.default_rng([self.seed, step, 1]).integers(0, places, self.batch)
        strips = [images[n].narrow(self.axis - 1, int(o), self.strip) for n, o in zip(chosen, offsets, strict=True)]
        return torch.stack(strips)
