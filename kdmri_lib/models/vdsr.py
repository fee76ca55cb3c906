"""VDSR (Kim et al. 2016): super-resolution by one deep stack of convolutions (paper, appendix A)."""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from kdmri_lib.models.base import MODELS, Model
from kdmri_lib.models.data_consistency import DataConsistency
from kdmri_lib.models.dccnn import begin_as_he, stack, through_stack


@MODELS.register("vdsr")
class VDSR(Model):
    """3x3 convolutions with ReLU between, the input added to the output.

    Parameters
    ----------
    mask : boolean (H, W), the measured part of k-space, unshifted; used by data consistency only.
    convolutions, features : their number and the channels between; teacher (11, 64), student (7, 64).
    data_consistency : put the measured k-space back after the network, which the paper doesn't.
    initialisation : "default" or "he", as of `DCCNN`. By the default a network this deep stands still for a hundred steps.
    channels : of the images.

    A feature is asked for by name, ``convolution6``: counted from 1, taken after the ReLU.
    """

    def __init__(
        self,
        mask: np.ndarray,
        convolutions: Annotated[int, Field(ge=2)] = 11,
        features: Annotated[int, Field(ge=1)] = 64,
        data_consistency: bool = False,
        initialisation: Literal["default", "he"] = "default",
        channels: int = 1,
    ):
        super().__init__()
        self.convolutions = stack(channels, features, convolutions)
        self.data_consistency = DataConsistency(mask, math.inf, channels) if data_consistency else None
        if initialisation == "he":
            begin_as_he(self.convolutions)

    @property
    def feature_layers(self) -> list[dict[str, nn.Conv2d]]:
        return [{f"convolution{n}": layer for n, layer in enumerate(self.convolutions, 1)}]

    def through(self, zero_filled: Tensor, measured_image: Tensor, asked: dict[str, Tensor]) -> Tensor:
        image = zero_filled + through_stack(self.feature_layers[0], zero_filled, asked)
        return image if self.data_consistency is None else self.data_consistency(image, measured_image)
