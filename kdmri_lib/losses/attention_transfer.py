"""Attention transfer (Zagoruyko and Komodakis 2017; paper, eq. 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdmri_lib.losses.base import LOSSES, FeatureLoss, Pairs, Prediction, Variant

TINY = 1e-12  # a map of zeros stays zero in place of becoming NaN


class _AttentionMap(torch.autograd.Function):
    """The map in one pass, its sum in float32, without a copy of the feature in float32 for either direction: written with
    PyTorch's own operations, five maps of a student cost more than half a step."""

    @staticmethod
    def forward(feature: Tensor) -> Tensor:
        wide = torch.promote_types(feature.dtype, torch.float32)
        return torch.linalg.vector_norm(feature, dim=1, dtype=wide).square()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (feature,) = ctx.saved_tensors
        return feature * (2 * gradient).to(feature.dtype).unsqueeze(1)


def attention_map(feature: Tensor) -> Tensor:
    """F_sum: the sum over channels of the squared activations, (B, C, H, W) to (B, H, W), in float32 or better."""
    return _AttentionMap.apply(feature)


@LOSSES.register("attention_transfer")
class AttentionTransfer(FeatureLoss):
    """L_AT = sum over pairs of the batch's mean of || Q_S / ||Q_S||_2 - Q_T / ||Q_T||_2 ||_2, Q = vec(F_sum(A)) (eq. 3).

    Features A are (B, C, H, W) after activation; teacher and student may differ in C. Each sample's map is divided by its
    own norm, so the loss doesn't change when a map is scaled by a positive number. No gradient passes to the teacher.

    `variant` "released" is what the published code computes: the norm runs along the batch axis (each pixel is divided by
    its norm over the batch's samples), and the distance is the mean absolute difference, averaged over the pairs. With one
    sample every pixel would be 1, and nothing train: a batch of one is refused.
    """

    label = "Attention transfer"
    uses_truth = False
    fits = ("size",)

    def __init__(self, pairs: Pairs, variant: Variant = "paper"):
        super().__init__(pairs)
        self.variant = variant
        self.relates_samples = variant == "released"

    @staticmethod
    def reduced(feature: Tensor) -> Tensor:
        """The root of the attention map, (B, 1, H, W), whose own attention map is the feature's."""
        return attention_map(feature).sqrt().unsqueeze(1)

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction) -> Tensor:
        distances = [
            self._distance(attention_map(prediction.features[s]), attention_map(teacher.features[t].detach()))
            for t, s in self.pairs
        ]
        return sum(distances) / (len(distances) if self.variant == "released" else 1)

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = student.flatten(1), teacher.flatten(1)
        if self.variant == "released":
            return F.l1_loss(F.normalize(student, dim=0, eps=TINY), F.normalize(teacher, dim=0, eps=TINY))
        difference = F.normalize(student, dim=1, eps=TINY) - F.normalize(teacher, dim=1, eps=TINY)
        return difference.norm(dim=1).mean()
