"""Losses by name: one short file each, the same interface for all.

A loss is a module called with (target, student, teacher): the true image (B, 1, H, W) and two `Prediction`s; it returns a
scalar. What it needs it says in its attributes, so that training asks the networks for no more:

- `uses_teacher`: without it, no teacher runs and `teacher` is None;
- `pairs`: (teacher feature, student feature) names, for losses on features; empty otherwise;
- `judges_image`: whether a lower value means a better image. If no term of an objective does, checkpoints are picked by
  the objective itself on the validation set, otherwise by validation PSNR.

A loss of one's own: a subclass of `torch.nn.Module` decorated with ``@register("name")``, named in a run's objective.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from kdmri_lib.errors import StudyError

LOSSES: dict[str, type[nn.Module]] = {}


class Prediction(NamedTuple):
    """What a network gave: image (B, 1, H, W), and the feature maps (B, C, H, W) that were asked for, by name."""

    image: Tensor
    features: Mapping[str, Tensor]


def register(name: str) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Class decorator that makes a loss known by `name`; a later one of the same name replaces it."""

    def add(loss: type[nn.Module]) -> type[nn.Module]:
        LOSSES[name] = loss
        return loss

    return add


def build_loss(name: str, **options) -> nn.Module:
    """Make the loss of that name; `StudyError` when there is none, or when it doesn't take these options."""
    if name not in LOSSES:
        raise StudyError(f"unknown loss '{name}'; known: {', '.join(sorted(LOSSES))}")
    try:
        return LOSSES[name](**options)
    except TypeError as error:
        raise StudyError(f"loss '{name}': {error}") from None


def check_variant(loss: str, variant: str, known: tuple[str, ...] = ("paper", "released")) -> str:
    if variant not in known:
        raise StudyError(f"loss '{loss}': unknown variant '{variant}'; known: {', '.join(known)}")
    return variant


class Objective(nn.Module):
    """Weighted sum of losses, as a run declares it."""

    def __init__(self, terms):
        super().__init__()
        self.losses = nn.ModuleList(build_loss(term.loss, **term.options) for term in terms)
        self.weights = [term.weight for term in terms]

    @property
    def uses_teacher(self) -> bool:
        return any(loss.uses_teacher for loss in self.losses)

    @property
    def judges_image(self) -> bool:
        return any(loss.judges_image for loss in self.losses)

    @property
    def teacher_features(self) -> list[str]:
        return sorted({pair[0] for loss in self.losses for pair in loss.pairs})

    @property
    def student_features(self) -> list[str]:
        return sorted({pair[1] for loss in self.losses for pair in loss.pairs})

    def forward(self, target: Tensor, student: Prediction, teacher: Prediction | None) -> Tensor:
        return sum(
            weight * loss(target, student, teacher) for weight, loss in zip(self.weights, self.losses, strict=True)
        )


from kdmri_lib.losses import attention_transfer, imitation, reconstruction  # noqa: E402, F401 (each registers itself)
