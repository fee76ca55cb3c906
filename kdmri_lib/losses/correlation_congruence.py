"""Correlation congruence (Peng et al. 2019)."""

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor

from kdmri_lib.losses.base import LOSSES, FeatureLoss, Pairs, Prediction, samples_flat

TINY = 1e-24  # a map of zeros has a cosine of zero with all others in place of NaN


def correlation(feature: Tensor, gamma: float, order: int) -> Tensor:
    """Gaussian kernel exp(-gamma ||f_i - f_j||^2) of L2-normalised samples, Taylor-expanded: (B, C, H, W) to (B, B)."""
    flat = samples_flat(feature)
    gram = flat @ flat.T
    # Normalised after the product, which is B x B: the maps themselves are large.
    inverse_norm = gram.diagonal().clamp_min(TINY).rsqrt()
    cosine = inverse_norm[:, None] * gram * inverse_norm
    return math.exp(-2 * gamma) * sum((2 * gamma * cosine) ** p / math.factorial(p) for p in range(order + 1))


@LOSSES.register("correlation_congruence")
class CorrelationCongruence(FeatureLoss):
    """|| C_S - C_T ||_F^2 / b^2, summed over the pairs, C the kernel between the batch's samples (Peng et al., eq. 6 to 9).

    `gamma` and `order` of the expansion as in the source (0.4, 2). Its authors add it to the task's loss; here it may
    stand alone like the others. Channels may differ; it needs a batch of at least 2. The paper doesn't compare with it,
    its successor does (Gayathri et al. 2023). No gradient passes to the teacher.
    """

    label = "Correlation congruence"
    relates_samples = True

    def __init__(
        self,
        pairs: Pairs,
        gamma: Annotated[float, Field(gt=0)] = 0.4,
        order: Annotated[int, Field(ge=1)] = 2,
    ):
        super().__init__(pairs)
        self.gamma, self.order = gamma, order

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction) -> Tensor:
        return sum(
            (correlation(s, self.gamma, self.order) - correlation(t, self.gamma, self.order)).square().sum()
            / len(s) ** 2
            for s, t in self.feature_pairs(prediction, teacher)
        )
