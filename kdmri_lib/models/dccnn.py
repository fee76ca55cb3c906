"""Deep cascade of convolutional networks (Schlemper et al. 2017), the paper's teacher and student."""

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from kdmri_lib.models.base import MODELS, Model
from kdmri_lib.models.data_consistency import DataConsistency


@MODELS.register("dccnn")
class DCCNN(Model):
    """Cascades of 3x3 convolutions with ReLU between, each followed by data consistency.

    Parameters
    ----------
    mask : boolean (H, W) undersampling mask, unshifted.
    cascades, convolutions, features : n_c, n_d and the channels between; teacher (5, 5, 32), student (5, 3, 32).
    residual : add the cascade's input to its convolutions' output, ahead of data consistency (the paper); the published
        code has none. Ahead, because a sum after it would undo the consistency.
    strength : lambda of data consistency.
    initialisation : "default" is PyTorch's, as the published code's, whose weights are 0.58 / sqrt(fan-in) wide where ReLU
        asks for 1.41 / sqrt(fan-in), so that what a cascade adds is small and depends little on its input; "he" is He et
        al.'s (2015), without biases, the last convolution of each cascade times 0.1: a network begins as hardly more than
        its data consistency.
    channels : of the images.

    A feature is asked for by name, ``cascade3.convolution2``: counted from 1, taken after the ReLU (the last convolution
    of a cascade has none).
    """

    def __init__(
        self,
        mask: np.ndarray,
        cascades: Annotated[int, Field(ge=1)] = 5,
        convolutions: Annotated[int, Field(ge=2)] = 5,
        features: Annotated[int, Field(ge=1)] = 32,
        residual: bool = True,
        strength: Annotated[float, Field(ge=0)] = math.inf,
        initialisation: Literal["default", "he"] = "default",
        channels: int = 1,
    ):
        super().__init__()
        self.residual = residual
        self.cascades = nn.ModuleList(stack(channels, features, convolutions) for _ in range(cascades))
        self.data_consistency = DataConsistency(mask, strength, channels)
        if initialisation == "he":
            for cascade in self.cascades:
                begin_as_he(cascade)

    @property
    def feature_layers(self) -> list[dict[str, nn.Conv2d]]:
        return [
            {f"cascade{c}.convolution{n}": layer for n, layer in enumerate(cascade, 1)}
            for c, cascade in enumerate(self.cascades, 1)
        ]

    def through(self, zero_filled: Tensor, measured_image: Tensor, asked: dict[str, Tensor]) -> Tensor:
        image = zero_filled
        for layers in self.feature_layers:
            image = self.through_cascade(layers, image, measured_image, asked)
        return image

    def through_cascade(
        self, layers: Mapping[str, nn.Conv2d], image: Tensor, measured_image: Tensor, asked: dict[str, Tensor]
    ) -> Tensor:
        """Image (B, C, H, W) after a cascade of these `layers`, data consistency included."""
        hidden = through_stack(layers, image, asked)
        prediction = image + hidden if self.residual else hidden
        return self.data_consistency(prediction, measured_image)


def stack(channels: int, features: int, convolutions: int) -> nn.ModuleList:
    """So many 3x3 convolutions, `features` channels between them and `channels` at both ends."""
    widths = [channels] + [features] * (convolutions - 1) + [channels]
    return nn.ModuleList(nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in itertools.pairwise(widths))


def through_stack(layers: Mapping[str, nn.Conv2d], hidden: Tensor, asked: dict[str, Tensor]) -> Tensor:
    """What convolutions by the names of their features, with ReLU between, make of (B, C, H, W); fills in `asked`."""
    for n, (name, convolution) in enumerate(layers.items(), 1):
        hidden = convolution(hidden)
        if n < len(layers):
            hidden = hidden.relu_()  # in place: nothing needs the value before it
        if name in asked:
            asked[name] = hidden
    return hidden


@torch.no_grad()
def begin_as_he(cascade: nn.ModuleList) -> None:
    """Draw the weights of convolutions with ReLU between as He et al. (2015, eq. 10), those of the last times 0.1."""
    for convolution in cascade:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)
    cascade[-1].weight.mul_(0.1)
