"""Reconstruction loss L_rec = ||x - x_rec|| (paper, Algorithm 1, step 1)."""

import torch.nn.functional as F
from torch import Tensor

from kdmri_lib.losses import Loss, Prediction, check_variant, register

# The paper leaves the norm open; the published code trains with the mean absolute error and validates with the squared.
NORMS = {"l1": F.l1_loss, "l2": F.mse_loss}


@register("reconstruction")
class Reconstruction(Loss):
    """Mean over pixels of |x - x_rec| (`norm` "l1", the default) or of its square ("l2")."""

    uses_teacher = False
    judges_image = True

    def __init__(self, norm: str = "l1"):
        super().__init__()
        self.distance = NORMS[check_variant("reconstruction", norm, tuple(NORMS))]

    def forward(self, target: Tensor, student: Prediction, teacher: Prediction | None) -> Tensor:
        return self.distance(student.image, target)
