"""Training on measured lines alone, without a true image and without a teacher (Yaman et al. 2020, SSDU)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from kdmri_lib.losses.base import LOSSES, Loss, Prediction


@LOSSES.register("held_out_lines")
class HeldOutLines(Loss):
    """|| y_h - M_h F x_S ||_2 / || y_h ||_2, a mean over samples: at each step other lines h are held out of the measured
    ones, the network sees the rest, and what it says of those held out is compared with what was measured there.

    Yaman et al. ("Self-supervised learning of physics-guided reconstruction neural networks without fully sampled reference
    data", eq. 6) add the normalised l1 norm of the same, and hold out points of k-space; here it is whole lines, of which
    a mask is made, and the l2 norm, which is the same in hybrid space, where strips of an image are. `share` of the
    measured lines is held out.
    """

    label = "Held-out lines (SSDU)"
    uses_teacher = uses_truth = False

    def __init__(self, share: Annotated[float, Field(gt=0, lt=1)] = 0.4):
        super().__init__()
        self.held_out = share

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction | None) -> Tensor:
        """`target` and the prediction's image are what the held-out lines leave of them (`UndersamplingOperator.left`)."""
        norm = target.flatten(1).norm(dim=1).clamp_min(1e-12)
        return ((target - prediction.image).flatten(1).norm(dim=1) / norm).mean()
