"""Imitation: the student's image is compared with the truth and with the teacher's (Saputra et al. 2019; paper, eq. 4)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from kdmri_lib.losses.base import LOSSES, Loss, Prediction, Variant
from kdmri_lib.losses.reconstruction import NORMS, Norm


@LOSSES.register("imitation")
class Imitation(Loss):
    """L_total = alpha ||x - x_S|| + (1 - alpha) ||x_T - x_S||, the same norm in both (eq. 4); images (B, C, H, W).

    `variant` "released" is what the published code computes: ||x - x_S|| + ||x_T - x_S|| / (B H W), alpha unused, so that
    imitation weighs some 4e-6 of reconstruction for four slices of 240 x 240. No gradient passes to the teacher.

    With `alpha` 0 the true image plays no part: a student can train where there is none, and its checkpoint is picked by
    how well it imitates.
    """

    def __init__(self, alpha: Annotated[float, Field(ge=0, le=1)] = 0.5, norm: Norm = "l1", variant: Variant = "paper"):
        super().__init__()
        self.alpha, self.distance, self.variant = alpha, NORMS[norm], variant
        self.judges_image = self.uses_truth = alpha > 0 or variant == "released"

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction) -> Tensor:
        imitated = self.distance(prediction.image, teacher.image.detach())
        if not self.judges_image:
            return imitated
        truth = self.distance(prediction.image, target)
        if self.variant == "released":
            return truth + imitated / prediction.image.numel()
        return self.alpha * truth + (1 - self.alpha) * imitated
