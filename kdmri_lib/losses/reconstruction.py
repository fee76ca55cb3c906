"""Reconstruction loss L_rec = ||x - x_rec|| (paper, Algorithm 1, step 1)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from kdmri_lib.losses.base import LOSSES, Loss, Prediction

# The paper leaves the norm open; the published code trains with the mean absolute error and validates with the squared.
Norm = Literal["l1", "l2"]
NORMS = {"l1": F.l1_loss, "l2": F.mse_loss}


@LOSSES.register("reconstruction")
class Reconstruction(Loss):
    """Mean over pixels of |x - x_rec| (`norm` "l1", the default) or of its square ("l2")."""

    uses_teacher = False
    judges_image = True

    def __init__(self, norm: Norm = "l1"):
        super().__init__()
        self.distance = NORMS[norm]

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction | None) -> Tensor:
        return self.distance(prediction.image, target)
