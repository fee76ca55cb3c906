"""Imitation: the student's image is compared with the truth and with the teacher's (Saputra et al. 2019; paper, eq. 4)."""

from torch import Tensor

from kdmri_lib.errors import StudyError
from kdmri_lib.losses import Loss, Prediction, check_variant, register
from kdmri_lib.losses.reconstruction import NORMS


@register("imitation")
class Imitation(Loss):
    """L_total = alpha ||x - x_S|| + (1 - alpha) ||x_T - x_S||, the same norm in both (eq. 4); images (B, 1, H, W).

    `variant` "released" is what the published code computes: ||x - x_S|| + ||x_T - x_S|| / (B H W), alpha unused, so that
    imitation weighs some 4e-6 of reconstruction for four slices of 240 x 240. No gradient passes to the teacher.
    """

    judges_image = True

    def __init__(self, alpha: float = 0.5, norm: str = "l1", variant: str = "paper"):
        super().__init__()
        if not 0 <= alpha <= 1:
            raise StudyError(f"loss 'imitation': alpha is {alpha}, expected 0 to 1")
        self.alpha = alpha
        self.distance = NORMS[check_variant("imitation", norm, tuple(NORMS))]
        self.variant = check_variant("imitation", variant)
        self.needs_whole_batch = self.variant == "released"

    def forward(self, target: Tensor, student: Prediction, teacher: Prediction) -> Tensor:
        truth = self.distance(student.image, target)
        imitated = self.distance(student.image, teacher.image.detach())
        if self.variant == "released":
            return truth + imitated / student.image.numel()
        return self.alpha * truth + (1 - self.alpha) * imitated
