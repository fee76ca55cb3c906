"""FitNets: the student learns the teacher's feature maps themselves (Romero et al. 2015)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kdmri_lib.errors import StudyError
from kdmri_lib.losses import Loss, Prediction, checked_pairs, register


@register("fitnets")
class FitNets(Loss):
    """1/2 || A_T - r(A_S) ||^2, the mean over a map's elements and the batch, summed over the pairs (Romero et al., eq. 3).

    Features A are (B, C, H, W). The regressor r, a convolution trained with the student, is needed only where channels
    differ; then `channels` = (teacher's, student's) and `kernel` (1 or 3). The published KD-MRI code holds no FitNets; its
    networks have the same channels everywhere, so that r is the identity. No gradient passes to the teacher.
    """

    def __init__(self, pairs: Sequence[Sequence[str]], channels: Sequence[int] | None = None, kernel: int = 1):
        super().__init__()
        self.pairs = checked_pairs("fitnets", pairs)
        if kernel not in (1, 3):
            raise StudyError(f"loss 'fitnets': kernel is {kernel}, expected 1 or 3")
        self.regressors = nn.ModuleList(
            nn.Identity() if channels is None else nn.Conv2d(channels[1], channels[0], kernel, padding=kernel // 2)
            for _ in self.pairs
        )

    def forward(self, target: Tensor, student: Prediction, teacher: Prediction) -> Tensor:
        terms = []
        for (mine, shown), regressor in zip(self.feature_pairs(student, teacher), self.regressors, strict=True):
            matched = regressor(mine)
            if matched.shape != shown.shape:
                raise StudyError(
                    f"loss 'fitnets': maps {tuple(matched.shape)} and {tuple(shown.shape)} differ; give `channels`"
                )
            terms.append(F.mse_loss(matched, shown) / 2)
        return sum(terms)
