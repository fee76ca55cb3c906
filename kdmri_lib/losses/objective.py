"""An objective: the weighted sum of losses that a stage of training lowers."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdmri_lib.declarations import LossTerm
from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import Loss, Prediction, build_loss


class Objective(nn.Module):
    """Weighted sum of losses, as declared, or as (weight, loss); what it needs is what any of them needs (see `Loss`)."""

    def __init__(self, terms: Iterable[LossTerm | tuple[float, Loss]]):
        super().__init__()
        built = (t if isinstance(t, tuple) else (t.weight, build_loss(t.loss, **t.options)) for t in terms)
        self.weights, losses = zip(*built, strict=True)
        self.losses = nn.ModuleList(losses)
        taught = [loss for loss in self.losses if loss.uses_teacher]
        self.uses_teacher = bool(taught)
        self.asks_once = bool(taught) and all(loss.asks_once for loss in taught)
        self.relates_samples = any(loss.relates_samples for loss in self.losses)
        self.judges_image = any(loss.judges_image for loss in self.losses)
        self.uses_truth = any(loss.uses_truth for loss in self.losses)
        self.needs_teacher_errors = any(type(loss).prepare is not Loss.prepare for loss in self.losses)
        self.teacher_features = sorted({name for loss in self.losses for name in loss.teacher_features})
        self.network_features = sorted({name for loss in self.losses for name in loss.network_features})
        self.held_out = max(loss.held_out for loss in self.losses)
        if self.held_out and len(self.losses) > 1:
            raise StudyError("an objective holds lines out, and has other losses, which compare whole images")

    def prepare(self, teacher_errors: Tensor) -> None:
        """Hand the teacher's errors over the training set, (samples,), to every loss."""
        for loss in self.losses:
            loss.prepare(teacher_errors)

    def answers(self, teacher: Prediction) -> Tensor:
        """All that losses that ask once take of a teacher, as channels of one float32 tensor (B, K, H, W): its image, then
        each loss's maps."""
        maps = [loss.reduced(teacher.features[name]) for loss in self.losses for name in loss.teacher_features]
        return torch.cat([channels.float() for channels in (teacher.image, *maps)], dim=1)

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction | Tensor | None) -> Tensor:
        """The objective of a batch, a scalar; `teacher` is what the teacher gave now, or its `answers` for this batch."""
        seen = [teacher] * len(self.losses)
        if isinstance(teacher, Tensor):
            image, *maps = teacher.split([target.shape[1], *[1] * (teacher.shape[1] - target.shape[1])], dim=1)
            maps = iter(maps)
            seen = [Prediction(image, {name: next(maps) for name in loss.teacher_features}) for loss in self.losses]
        terms = zip(self.weights, self.losses, seen, strict=True)
        return sum(weight * loss(target, prediction, shown) for weight, loss, shown in terms)
