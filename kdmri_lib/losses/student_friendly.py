"""Student-friendly teacher training: SFT-KD-Recon (Gayathri et al. 2023, arXiv 2304.05057)."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor

from kdmri_lib.losses.base import LOSSES, Loss, Prediction, Variant
from kdmri_lib.losses.reconstruction import NORMS, Norm

Branches = Annotated[Sequence[str], Field(min_length=1)]


@LOSSES.register("student_friendly")
class StudentFriendly(Loss):
    """L = ||x - x_T|| + (1/m) sum_i ||x - x_i|| + (1/m) sum_i ||x_T - x_i||, images (B, C, H, W), one norm in all.

    The network that trains is a teacher with m student branches (`kdmri_lib.models.student_friendly`): x_T is its output,
    x_i that of branch i, by name in `branches`. The last sum has gradients into the teacher as well, which is drawn towards
    what its students can do. `variant` "released" is what the published code computes: the last sum divided by the number
    of pixels in the batch, so that it is next to nothing.
    """

    uses_teacher = False
    judges_image = True

    def __init__(self, branches: Branches, norm: Norm = "l1", variant: Variant = "paper"):
        super().__init__()
        self.branches, self.distance, self.variant = list(branches), NORMS[norm], variant

    @property
    def network_features(self) -> list[str]:
        return self.branches

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction | None) -> Tensor:
        images = [prediction.features[name] for name in self.branches]
        truth = sum(self.distance(image, target) for image in images) / len(images)
        agreement = sum(self.distance(image, prediction.image) for image in images) / len(images)
        if self.variant == "released":
            agreement = agreement / target.numel()
        return self.distance(prediction.image, target) + truth + agreement
