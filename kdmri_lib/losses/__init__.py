"""Losses by name: one short file each, the same interface for all.

A loss of one's own is a subclass of `Loss` decorated with ``@register("name")``, named in a run's objective. It may stand
in a notebook; nothing else has to know of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from kdmri_lib.errors import StudyError


class Prediction(NamedTuple):
    """What a network gave: image (B, 1, H, W), and the feature maps (B, C, H, W) that were asked for, by name."""

    image: Tensor
    features: Mapping[str, Tensor]


class Loss(nn.Module):
    """Called with (target, student, teacher): the true image (B, 1, H, W) and two `Prediction`s; returns a scalar.

    What a loss needs it says in its attributes, so that training asks the networks for no more.
    """

    uses_teacher: bool = True
    """Without it, no teacher runs for this loss and `teacher` may be None."""
    judges_image: bool = False
    """Whether a lower value means a better image. If no term of an objective does, the validation set picks checkpoints by
    the objective itself, otherwise by PSNR."""
    pairs: Sequence[tuple[str, str]] = ()
    """(teacher feature, student feature) names, for losses on features."""
    needs_teacher_errors: bool = False
    """Whether `prepare` wants to see the teacher's errors over the training set before training begins."""
    needs_whole_batch: bool = False
    """Whether it is something else than a mean over samples, such as a comparison of them; then its batches can't be
    shared among processes."""

    @property
    def teacher_features(self) -> list[str]:
        """Names of the teacher's features that the loss wants to see."""
        return [teacher for teacher, _ in self.pairs]

    @property
    def student_features(self) -> list[str]:
        """Names of the features that it wants to see of the network that trains."""
        return [student for _, student in self.pairs]

    def prepare(self, teacher_errors: Tensor) -> None:
        """Receive the teacher's mean squared error of every training sample, (samples,)."""

    def feature_pairs(self, student: Prediction, teacher: Prediction) -> list[tuple[Tensor, Tensor]]:
        """(student map, teacher map) of each pair, (B, C, H, W) in float32 or better, the teacher's without gradient."""
        return [
            (full_precision(student.features[s]), full_precision(teacher.features[t].detach())) for t, s in self.pairs
        ]


LOSSES: dict[str, type[Loss]] = {}


def full_precision(feature: Tensor) -> Tensor:
    """A feature map in float32, or as it is when it is wider."""
    return feature.float() if feature.itemsize < 4 else feature


def samples_flat(feature: Tensor) -> Tensor:
    """A feature map (B, C, H, W) as (B, H W C), a view where it is stored channels last; a copy would cost a step's tenth.

    For losses that don't mind the order of a sample's values.
    """
    return feature.permute(0, 2, 3, 1).flatten(1)


def checked_pairs(loss: str, pairs: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    """Pairs of feature names from a declaration; `StudyError` when there is none."""
    if not pairs:
        raise StudyError(f"loss '{loss}': no pair of features")
    return tuple((teacher, student) for teacher, student in pairs)


def several_samples(loss: str, feature: Tensor) -> None:
    """`StudyError` for a batch of one: a loss on relations between samples has nothing to compare there."""
    if len(feature) < 2:
        raise StudyError(
            f"loss '{loss}' compares the samples of a batch with one another; it needs a batch of at least 2"
        )


def register(name: str) -> Callable[[type[Loss]], type[Loss]]:
    """Class decorator that makes a loss known by `name`; a later one of the same name replaces it."""

    def add(loss: type[Loss]) -> type[Loss]:
        LOSSES[name] = loss
        return loss

    return add


def build_loss(name: str, **options) -> Loss:
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
    def needs_teacher_errors(self) -> bool:
        return any(loss.needs_teacher_errors for loss in self.losses)

    @property
    def needs_whole_batch(self) -> bool:
        return any(loss.needs_whole_batch for loss in self.losses)

    def prepare(self, teacher_errors: Tensor) -> None:
        """Hand the teacher's errors over the training set to every loss."""
        for loss in self.losses:
            loss.prepare(teacher_errors)

    @property
    def teacher_features(self) -> list[str]:
        return sorted({name for loss in self.losses for name in loss.teacher_features})

    @property
    def student_features(self) -> list[str]:
        return sorted({name for loss in self.losses for name in loss.student_features})

    def forward(self, target: Tensor, student: Prediction, teacher: Prediction | None) -> Tensor:
        return sum(
            weight * loss(target, student, teacher) for weight, loss in zip(self.weights, self.losses, strict=True)
        )


from kdmri_lib.losses import (  # noqa: E402, F401 (each registers itself)
    attention_transfer,
    attentive_hint,
    attentive_imitation,
    correlation_congruence,
    fitnets,
    fsp,
    imitation,
    reconstruction,
    similarity_preserving,
    student_friendly,
)
