"""Attentive hint: FitNets, weighted by how well the teacher did on each sample (Saputra et al. 2019)."""

import torch
from torch import Tensor

from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import LOSSES, FeatureLoss, Pairs, Prediction


@LOSSES.register("attentive_hint")
class AttentiveHint(FeatureLoss):
    """Mean over the batch of Phi_i || A_T,i - A_S,i ||^2 (a mean over the map's elements), summed over the pairs (eq. 7).

    Phi_i = 1 - e_i / eta, with e_i the teacher's squared error on sample i and eta = max e - min e over the training set.
    e is a mean over the sample's pixels, so that it doesn't depend on the sample's size. Where e_i > eta, Phi_i would be
    negative and the student be pushed away from the teacher; there it is 0.

    Features A are (B, C, H, W) with equal channels. The published KD-MRI code holds no attentive hint. No gradient passes
    to the teacher.
    """

    label = "Attentive hint"
    fits = ("channels", "size")

    def __init__(self, pairs: Pairs):
        super().__init__(pairs)
        self.register_buffer("eta", torch.tensor(float("nan")))

    def prepare(self, teacher_errors: Tensor) -> None:
        spread = teacher_errors.max() - teacher_errors.min()
        if not spread > 0:
            raise StudyError("attentive hint: the teacher's error is the same on every training sample; eta would be 0")
        self.eta.copy_(spread)

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction) -> Tensor:
        if self.eta.isnan():
            raise StudyError("attentive hint: used before it saw the teacher's errors over the training set")
        error = (teacher.image.detach() - target).square().mean(dim=(1, 2, 3))
        trust = (1 - error / self.eta).clamp(min=0)  # Phi of each sample
        maps = self.feature_pairs(prediction, teacher)
        return sum((trust * (mine - shown).square().mean(dim=(1, 2, 3))).mean() for mine, shown in maps)
