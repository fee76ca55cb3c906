"""What a loss is, and losses by name: one short file each, the same interface for all.

A loss of one's own is a subclass of `Loss` decorated with ``@LOSSES.register("name")``, named in a run's objective. It may
stand in a notebook; nothing else has to know of it.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from torch import Tensor, nn

from kdmri_lib.errors import StudyError
from kdmri_lib.models.base import Model, middle
from kdmri_lib.options import checked_options
from kdmri_lib.registry import Registry

LOSSES = Registry("loss", "kdmri_lib.losses")
Pairs = Sequence[Annotated[Sequence[str], Field(min_length=2, max_length=2)]]
Variant = Literal["paper", "released"]  # as the paper defines it, or as the published code computes it


class Prediction(NamedTuple):
    """What a network gave: image (B, C, H, W), C = 1 of magnitudes and 2 of complex images, and the feature maps
    (B, K, H, W) that were asked for, by name."""

    image: Tensor
    features: Mapping[str, Tensor]


class Loss(nn.Module):
    """Called with (target, prediction, teacher): the true image (B, C, H, W), what the network that trains gave, and what
    its teacher gave; returns a scalar.

    What a loss needs it says in its attributes, so that training asks the networks for no more.
    """

    label: str = ""
    """What people call it; its name where it has none."""
    uses_teacher: bool = True
    """Without it, no teacher runs for this loss and `teacher` may be None."""
    judges_image: bool = False
    """Whether a lower value means a better image. If no term of an objective does, the validation set picks checkpoints by
    the objective itself, otherwise by PSNR."""
    uses_truth: bool = True
    """Whether it looks at the true image. A training of subjects without truth takes no loss that does."""
    held_out: float = 0.0
    """The share of the measured lines that the network doesn't see at a step, and that the loss compares alone. A loss that
    holds out is the only one of its objective."""
    pairs: Sequence[tuple[str, str]] = ()
    """(teacher's feature, feature of the network that trains) names, for losses on features."""
    asks_once: bool = False
    """Whether all that it takes of a teacher belongs to places in the image: the teacher's image, or a map in the stead of
    each feature (`reduced`). Then the teacher is asked once for each training slice, and its answers are cut to the strips
    that train. Other losses need whole feature maps, and the teacher at each step."""
    takes_teacher_image: bool = False
    """Whether it looks at the teacher's image; matters where `asks_once`."""
    relates_samples: bool = False
    """Whether it compares the samples of a batch with one another; then a batch of one is refused before training."""
    needs_teacher_errors: bool = False
    """Whether `prepare` wants to see the teacher's errors over the training set before training begins."""

    @classmethod
    def places(cls, teacher: Model, student: Model) -> dict:
        """Options that put the loss where it usually stands: at the middle convolutions of each group, as in the paper.

        `StudyError` for networks of different numbers of groups, which have no such places.
        """
        return {"pairs": [[middle(t), middle(s)] for t, s in groups_of_both(teacher, student)]}

    @property
    def teacher_features(self) -> list[str]:
        """Names of the teacher's features that the loss wants to see."""
        return [teacher for teacher, _ in self.pairs]

    @property
    def network_features(self) -> list[str]:
        """Names of the features that it wants to see of the network that trains."""
        return [name for _, name in self.pairs]

    @staticmethod
    def reduced(feature: Tensor) -> Tensor:
        """What serves this loss in the stead of a teacher's feature (B, C, H, W): one map, (B, 1, H, W). For losses that
        ask once."""
        return feature

    def prepare(self, teacher_errors: Tensor) -> None:
        """Receive the teacher's mean squared error of every training sample, (samples,)."""

    def feature_pairs(self, prediction: Prediction, teacher: Prediction) -> list[tuple[Tensor, Tensor]]:
        """(map of the network that trains, teacher's map) of each pair, (B, C, H, W) in float32 or better, the teacher's
        without gradient."""
        return [
            (full_precision(prediction.features[n]), full_precision(teacher.features[t].detach()))
            for t, n in self.pairs
        ]


def build_loss(name: str, /, **options) -> Loss:
    """Make the loss of that name.

    Raises
    ------
    StudyError
        When there is none, or an option is unknown, missing or out of its range.
    """
    loss = LOSSES.find(name)
    return loss(**checked_options(loss, options, f"loss '{name}'"))


def groups_of_both(teacher: Model, student: Model) -> list[tuple[list[str], list[str]]]:
    """Feature names of two networks, group by group; `StudyError` where one has more groups than the other."""
    groups = teacher.feature_groups, student.feature_groups
    if len(groups[0]) != len(groups[1]):
        raise StudyError(f"features of {len(groups[0])} cascades of the teacher can't be paired with {len(groups[1])}")
    return list(zip(*groups, strict=True))


def full_precision(feature: Tensor) -> Tensor:
    """A feature map in float32, or as it is when it is wider."""
    return feature.float() if feature.itemsize < 4 else feature


def samples_flat(feature: Tensor) -> Tensor:
    """A feature map (B, C, H, W) as (B, H W C), a view where it is stored channels last; a copy would cost a step's tenth.

    For losses that don't mind the order of a sample's values.
    """
    return feature.permute(0, 2, 3, 1).flatten(1)


def checked_pairs(loss: str, pairs: Pairs) -> tuple[tuple[str, str], ...]:
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
