"""Attentive hint: FitNets, weighted by how well the teacher did on each sample (Saputra et al. 2019)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdmri_lib.errors import StudyError
from kdmri_lib.losses import Loss, Prediction, checked_pairs, register


class TeacherTrust(Loss):
    """Phi_i = 1 - e_i / eta, with e_i the teacher's squared error on sample i, eta = max e - min e over the training set.

    e is a mean over the sample's pixels, so that it doesn't depend on the sample's size. Where e_i > eta, Phi_i would be
    negative and the student be pushed away from the teacher; there it is 0.
    """

    needs_teacher_errors = True

    def __init__(self):
        super().__init__()
        self.register_buffer("eta", torch.tensor(float("nan")))

    def prepare(self, teacher_errors: Tensor) -> None:
        spread = teacher_errors.max() - teacher_errors.min()
        if not spread > 0:
            raise StudyError("attentive loss: the teacher's error is the same on every training sample; eta would be 0")
        self.eta.copy_(spread)

    def trust(self, target: Tensor, teacher: Prediction) -> Tensor:
        """Phi of each sample, (B,)."""
        if self.eta.isnan():
            raise StudyError("attentive loss: used before it saw the teacher's errors over the training set")
        error = (teacher.image.detach() - target).square().flatten(1).mean(dim=1)
        return (1 - error / self.eta).clamp(min=0)


@register("attentive_hint")
class AttentiveHint(TeacherTrust):
    """Mean over the batch of Phi_i || A_T,i - A_S,i ||^2 (a mean over the map's elements), summed over the pairs (eq. 7).

    Features A are (B, C, H, W) with equal channels. The published KD-MRI code holds no attentive hint. No gradient passes
    to the teacher.
    """

    def __init__(self, pairs: Sequence[Sequence[str]]):
        super().__init__()
        self.pairs = checked_pairs("attentive_hint", pairs)

    def forward(self, target: Tensor, student: Prediction, teacher: Prediction) -> Tensor:
        trust = self.trust(target, teacher)
        terms = []
        for mine, shown in self.feature_pairs(student, teacher):
            hints = torch.stack([F.mse_loss(a, b) for a, b in zip(mine, shown, strict=True)])  # of each sample
            terms.append((trust * hints).mean())
        return sum(terms)
