"""An objective: the weighted sum of losses that a stage of training lowers."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdmri_lib.declarations import LossTerm
from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import Prediction, build_loss


class Objective(nn.Module):
    """Weighted sum of losses, as declared; what it needs is what any of them needs (see `Loss`)."""

    def __init__(self, terms: Iterable[LossTerm]):
        super().__init__()
        terms = list(terms)
        self.losses = nn.ModuleList(build_loss(term.loss, **term.options) for term in terms)
        self.weights = [term.weight for term in terms]
        taught = [loss for loss in self.losses if loss.uses_teacher]
        self.uses_teacher = bool(taught)
        self.asks_once = bool(taught) and all(loss.asks_once for loss in taught)
        self.takes_teacher_image = any(loss.takes_teacher_image for loss in taught)
        self.relates_samples = any(loss.relates_samples for loss in self.losses)
        self.held_out = max(loss.held_out for loss in self.losses)
        if self.held_out and len(self.losses) > 1:
            raise StudyError("an objective holds lines out, and has other losses, which compare whole images")
        self.uses_truth = any(loss.uses_truth for loss in self.losses)
        self.judges_image = any(loss.judges_image for loss in self.losses)
        self.needs_teacher_errors = any(loss.needs_teacher_errors for loss in self.losses)
        self.teacher_features = sorted({name for loss in self.losses for name in loss.teacher_features})
        self.network_features = sorted({name for loss in self.losses for name in loss.network_features})

    def prepare(self, teacher_errors: Tensor) -> None:
        """Hand the teacher's errors over the training set, (samples,), to every loss."""
        for loss in self.losses:
            loss.prepare(teacher_errors)

    def answers(self, teacher: Prediction) -> Tensor:
        """All that losses that ask once take of a teacher, as channels of one float32 tensor (B, K, H, W): its image where
        one looks at it, then each loss's maps."""
        channels = [teacher.image] if self.takes_teacher_image else []
        channels += [loss.reduced(teacher.features[name]) for loss in self.losses for name in loss.teacher_features]
        return torch.cat([channel.float() for channel in channels], dim=1)

    def _seen(self, answers: Tensor) -> list[Prediction]:
        """What each loss sees of a teacher, from `answers`."""
        maps = sum(len(loss.teacher_features) for loss in self.losses)
        first = answers.shape[1] - maps  # the image's channels, none where no loss looks at it
        image, found = answers[:, :first], []
        maps = iter(answers[:, first:].split(1, dim=1))
        for loss in self.losses:
            found.append(Prediction(image, {name: next(maps) for name in loss.teacher_features}))
        return found

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction | Tensor | None) -> Tensor:
        """The objective of a batch, a scalar.

        `teacher` : what the teacher gave now; or its `answers` for this batch; None where no loss uses it.
        """
        seen = self._seen(teacher) if isinstance(teacher, Tensor) else [teacher] * len(self.losses)
        return sum(
            weight * loss(target, prediction, shown)
            for weight, loss, shown in zip(self.weights, self.losses, seen, strict=True)
        )
