"""An objective: the weighted sum of losses that a stage of training lowers."""

from collections.abc import Iterable

from torch import Tensor, nn

from kdmri_lib.declarations import LossTerm
from kdmri_lib.losses.base import Prediction, build_loss


class Objective(nn.Module):
    """Weighted sum of losses, as declared; what it needs is what any of them needs (see `Loss`)."""

    def __init__(self, terms: Iterable[LossTerm]):
        super().__init__()
        terms = list(terms)
        self.losses = nn.ModuleList(build_loss(term.loss, **term.options) for term in terms)
        self.weights = [term.weight for term in terms]
        self.uses_teacher = any(loss.uses_teacher for loss in self.losses)
        self.judges_image = any(loss.judges_image for loss in self.losses)
        self.needs_teacher_errors = any(loss.needs_teacher_errors for loss in self.losses)
        self.teacher_features = sorted({name for loss in self.losses for name in loss.teacher_features})
        self.network_features = sorted({name for loss in self.losses for name in loss.network_features})

    def prepare(self, teacher_errors: Tensor) -> None:
        """Hand the teacher's errors over the training set, (samples,), to every loss."""
        for loss in self.losses:
            loss.prepare(teacher_errors)

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction | None) -> Tensor:
        """The objective of a batch, a scalar; `teacher` may be None where no loss uses it."""
        return sum(
            weight * loss(target, prediction, teacher) for weight, loss in zip(self.weights, self.losses, strict=True)
        )
