"""Similarity-preserving distillation (Tung and Mori 2019)."""

import torch.nn.functional as F
from torch import Tensor

from kdmri_lib.losses.base import LOSSES, FeatureLoss, Prediction, samples_flat


def similarity(feature: Tensor) -> Tensor:
    """A A^T over the batch, A a row per sample, each row of it divided by its L2 norm: (B, C, H, W) to (B, B)."""
    flat = samples_flat(feature)
    return F.normalize(flat @ flat.T, dim=1)


@LOSSES.register("similarity_preserving")
class SimilarityPreserving(FeatureLoss):
    """|| G_T - G_S ||_F^2 / b^2, summed over the pairs, G the normalised similarity of the batch's samples (eq. 4 there).

    Unchanged when a network's features are mixed by an orthogonal matrix; channels may differ. It needs a batch of at
    least 2. The published KD-MRI code holds no similarity preserving. No gradient passes to the teacher.
    """

    label = "Similarity preserving"
    relates_samples = True

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction) -> Tensor:
        return sum(
            (similarity(t) - similarity(s)).square().sum() / len(s) ** 2
            for s, t in self.feature_pairs(prediction, teacher)
        )
