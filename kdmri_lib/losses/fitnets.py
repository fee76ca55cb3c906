"""FitNets: the student learns the teacher's feature maps themselves (Romero et al. 2015)."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import LOSSES, FeatureLoss, Pairs, Prediction
from kdmri_lib.models.base import Model

Channels = Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


@LOSSES.register("fitnets")
class FitNets(FeatureLoss):
    """1/2 || A_T - r(A_S) ||^2, the mean over a map's elements and the batch, summed over the pairs (Romero et al., eq. 3).

    Features A are (B, C, H, W). The regressor r, a convolution trained with the student, is needed only where channels
    differ; then `channels` holds (teacher's, student's) of each pair, and `kernel` is 1 or 3. The published KD-MRI code
    holds no FitNets; its networks have the same channels everywhere, so that r is the identity. No gradient passes to the
    teacher.
    """

    label = "FitNets"
    fits = ("channels", "size")

    def __init__(self, pairs: Pairs, channels: Sequence[Channels] | None = None, kernel: Literal[1, 3] = 1):
        super().__init__(pairs)
        if channels is not None and len(channels) != len(self.pairs):
            raise StudyError(f"loss 'fitnets': {len(channels)} channels for {len(self.pairs)} pairs of features")
        self.regressors = nn.ModuleList(
            nn.Identity() if shown == mine else nn.Conv2d(mine, shown, kernel, padding=kernel // 2)
            for shown, mine in channels or [(0, 0)] * len(self.pairs)
        )

    @classmethod
    def places(cls, teacher: Model, student: Model) -> dict:
        options = super().places(teacher, student)
        channels = [[teacher.feature_channels[t], student.feature_channels[s]] for t, s in options["pairs"]]
        return options | ({"channels": channels} if any(t != s for t, s in channels) else {})

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction) -> Tensor:
        terms = []
        for (mine, shown), regressor in zip(self.feature_pairs(prediction, teacher), self.regressors, strict=True):
            matched = regressor(mine)
            if matched.shape != shown.shape:
                raise StudyError(
                    f"loss 'fitnets': maps {tuple(matched.shape)} and {tuple(shown.shape)} differ; give `channels`"
                )
            terms.append(F.mse_loss(matched, shown) / 2)
        return sum(terms)
