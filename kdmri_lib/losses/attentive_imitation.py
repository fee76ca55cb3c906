"""Attentive imitation: the imitation loss, weighted by how well the teacher did on each sample (Saputra et al. 2019)."""

from torch import Tensor

from kdmri_lib.errors import StudyError
from kdmri_lib.losses import Prediction, register
from kdmri_lib.losses.attentive_hint import TeacherTrust


@register("attentive_imitation")
class AttentiveImitation(TeacherTrust):
    """alpha |x - x_S| + (1 - alpha) Phi_i |x_T - x_S|, means over pixels and batch (eq. 5 there); images (B, 1, H, W).

    Phi as in `attentive_hint`. KD-MRI uses its unweighted form (`imitation`). No gradient passes to the teacher.
    """

    judges_image = True

    def __init__(self, alpha: float = 0.5):
        super().__init__()
        if not 0 <= alpha <= 1:
            raise StudyError(f"loss 'attentive_imitation': alpha is {alpha}, expected 0 to 1")
        self.alpha = alpha

    def forward(self, target: Tensor, student: Prediction, teacher: Prediction) -> Tensor:
        imitated = (student.image - teacher.image.detach()).abs().flatten(1).mean(dim=1)
        truth = (student.image - target).abs().mean()
        return self.alpha * truth + (1 - self.alpha) * (self.trust(target, teacher) * imitated).mean()
