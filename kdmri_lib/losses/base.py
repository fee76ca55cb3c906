"""What a loss is, and losses by name, a short file each. One's own is a subclass of `Loss` decorated with
``@LOSSES.register("name")``, in a notebook too; nothing else has to know of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from kdmri_lib.errors import StudyError
from kdmri_lib.models.base import Model, middle
from kdmri_lib.registry import Registry

LOSSES = Registry("loss", "kdmri_lib.losses")
Pairs = Annotated[Sequence[Annotated[Sequence[str], Field(min_length=2, max_length=2)]], Field(min_length=1)]
Variant = Literal["paper", "released"]  # as the paper defines it, or as the published code computes it
Fits = Literal["channels", "size"]  # what of a pair of maps


class Prediction(NamedTuple):
    """What a network gave: image (B, C, H, W), C = 1 of magnitudes and 2 of complex images, and the feature maps
    (B, K, H, W) that were asked for, by name."""

    image: Tensor
    features: Mapping[str, Tensor]


class Loss(nn.Module):
    """Called with (target, prediction, teacher): the true image (B, C, H, W), what the network that trains gave, and what
    its teacher gave; returns a scalar. Its attributes say what it needs, and training asks the networks for no more."""

    label: str = ""
    """What people call it; its name where it has none."""
    uses_teacher: bool = True
    """Without it, no teacher runs for this loss and `teacher` may be None."""
    judges_image: bool = False
    """Whether it compares the network's image with the true one. Where no term of an objective does, the validation set
    picks checkpoints by the objective itself, otherwise by PSNR."""
    uses_truth: bool = True
    """Whether it looks at the true image at all; subjects whose true image is missing train by no loss that does."""
    held_out: float = 0.0
    """The share of the measured lines that the network doesn't see at a step, and that the loss, the only one of its
    objective, compares alone."""
    pairs: Sequence[tuple[str, str]] = ()
    """(teacher's feature, feature of the network that trains) names, for losses on features."""
    relates_samples: bool = False
    """Whether it compares the samples of a batch with one another; then a batch of one is refused."""
    fits: Sequence[Fits] = ()
    """What must be equal of a pair's maps; `kdmri_lib.distillation` makes it so, channels by a convolution that trains
    along, sizes by interpolation."""
    reduced: Callable[[Tensor], Tensor] | None = None
    """What serves the loss in the stead of a teacher's feature (B, K, H, W): one map, (B, 1, H, W). See `asks_once`."""

    def __call__(self, target: Tensor, prediction: Prediction, teacher: Prediction | None = None) -> Tensor:
        if self.relates_samples and len(prediction.image) < 2:
            raise StudyError(
                f"{self.called} compares the samples of a batch with one another; it needs a batch of at least 2"
            )
        return super().__call__(target, prediction, teacher)

    @property
    def called(self) -> str:
        """What messages call it."""
        return self.label or type(self).__name__

    @classmethod
    def places(cls, teacher: Model, student: Model) -> dict:
        """Options that put the loss where the paper does: at the middle convolutions of each group; `StudyError` for
        networks of different numbers of groups."""
        return {"pairs": [[middle(t), middle(s)] for t, s in groups_of_both(teacher, student)]}

    @property
    def teacher_features(self) -> list[str]:
        """Names of the teacher's features that the loss wants to see."""
        return [teacher for teacher, _ in self.pairs]

    @property
    def network_features(self) -> list[str]:
        """Names of the features that it wants to see of the network that trains."""
        return [name for _, name in self.pairs]

    @property
    def asks_once(self) -> bool:
        """Whether all that it takes of a teacher is its image and, in the stead of a feature, a map (`reduced`). Then the
        teacher is asked once for each training slice, and its answers are cut to strips; otherwise at each step."""
        return not self.teacher_features or self.reduced is not None

    def prepare(self, teacher_errors: Tensor) -> None:
        """Receive the teacher's mean squared error of every training sample, (samples,); computed before training where a
        loss has a `prepare` of its own."""

    def feature_pairs(self, prediction: Prediction, teacher: Prediction) -> list[tuple[Tensor, Tensor]]:
        """(map of the network that trains, teacher's map) of each pair, (B, K, H, W) in float32 or better, the teacher's
        without gradient."""
        both = [(prediction.features[name], teacher.features[t].detach()) for t, name in self.pairs]
        return [tuple(f.to(torch.promote_types(f.dtype, torch.float32)) for f in pair) for pair in both]


class FeatureLoss(Loss):
    """A loss on `pairs` of features: (teacher's, that of the network that trains) names."""

    def __init__(self, pairs: Pairs):
        super().__init__()
        self.pairs = named(pairs, 2, "pairs")


def named(groups: Sequence[Sequence[str]], size: int, what: str) -> tuple[tuple[str, ...], ...]:
    """Names of features in groups of `size`; `StudyError` where they aren't such, or there is none."""
    found = [tuple(group) if isinstance(group, list | tuple) else (group,) for group in groups]
    if not found or any(len(group) != size or not all(isinstance(name, str) for name in group) for group in found):
        raise StudyError(f"{what}={groups!r}: expected a list of groups of {size} names of features")
    return tuple(found)


def build_loss(name: str, /, **options) -> Loss:
    """Make the loss of that name; `StudyError` when there is none, or an option is unknown, missing or out of its range."""
    return LOSSES.build(name, options)


def groups_of_both(teacher: Model, student: Model) -> list[tuple[list[str], list[str]]]:
    """Feature names of two networks, group by group; `StudyError` where one has more groups than the other."""
    groups = teacher.feature_groups, student.feature_groups
    if len(groups[0]) != len(groups[1]):
        raise StudyError(f"features of {len(groups[0])} cascades of the teacher can't be paired with {len(groups[1])}")
    return list(zip(*groups, strict=True))


def samples_flat(feature: Tensor) -> Tensor:
    """A feature map (B, C, H, W) as (B, H W C), for losses that don't mind the order of a sample's values: a view where it
    is stored channels last; a copy would cost a step's tenth."""
    return feature.permute(0, 2, 3, 1).flatten(1)
