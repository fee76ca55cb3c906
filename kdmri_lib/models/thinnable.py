"""A teacher that holds its student ready: DC-CNN, of which some convolutions can be taken out.

As networks of stochastic depth are (Huang et al. 2016, arXiv 1603.09382), it is trained with some of its layers left out at
random; what is left out is what a student of fewer convolutions hasn't got. So the student that begins with the weights of
the others (`begin_from`) is a network that was trained already.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from kdmri_lib.models.base import MODELS, spread
from kdmri_lib.models.dccnn import DCCNN
from kdmri_lib.registry import checked_options

Share = Annotated[float, Field(ge=0, le=1)]


@MODELS.register("thinnable")
class ThinnableDCCNN(DCCNN):
    """A DC-CNN whose convolutions between those of a student are residual branches: x + convolution(x), then ReLU.

    Parameters
    ----------
    mask : boolean (H, W) undersampling mask, unshifted.
    student_convolutions : n_d of the student, which has the first, the last, and as many between, as far apart as can be.
    dropped : how probable it is, in each cascade and step of training, that a branch is left out; PyTorch's random numbers
        say which. Else all are there.
    branches : their weights begin so many times as large as the initialisation draws them.
    channels : of the images; the rest as in `DCCNN`.
    """

    def __init__(
        self,
        mask: np.ndarray,
        student_convolutions: Annotated[int, Field(ge=2)] = 3,
        dropped: Share = 0.3,
        branches: Share = 0.3,
        channels: int = 1,
        **options,
    ):
        checked = checked_options(DCCNN, options, "model 'thinnable'", given=("mask", "channels"))
        super().__init__(mask, channels=channels, **checked)
        self.kept, self.dropped = spread(len(self.cascades[0]), student_convolutions), dropped
        with torch.no_grad():
            for cascade in self.cascades:
                for n in set(range(len(cascade))) - set(self.kept):
                    cascade[n].weight.mul_(branches)

    def through_cascade(
        self, layers: Mapping[str, nn.Conv2d], image: Tensor, measured_image: Tensor, asked: dict[str, Tensor]
    ) -> Tensor:
        steps = {name: c if n in self.kept else partial(self.branch, c) for n, (name, c) in enumerate(layers.items())}
        return super().through_cascade(steps, image, measured_image, asked)

    def branch(self, convolution: nn.Conv2d, hidden: Tensor) -> Tensor:
        """x + convolution(x), or x where the branch is left out; a copy, since the ReLU after it works in place."""
        left_out = self.training and torch.rand(()) < self.dropped
        return hidden.clone() if left_out else hidden + convolution(hidden)
