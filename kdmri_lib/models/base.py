"""What every network offers beside its images: features by name, in groups; and networks by name."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from kdmri_lib.channels import CommonPhase
from kdmri_lib.errors import StudyError
from kdmri_lib.registry import Registry

MODELS = Registry("model", "kdmri_lib.models")


class Model(nn.Module):
    """A network that maps (zero_filled, measured_image), both (B, C, H, W), to an image of that shape, and knows no loss.

    It is made of an undersampling mask, of the images' `channels` C (1 of magnitudes, 2 of complex images), and of options
    of its own. It has `feature_layers` and `through`; or a `forward` of its own.

    Its feature maps (B, K, H, W), one after each convolution, are asked for by name. They come in groups: a cascade each,
    or one for a network that is a plain stack.
    """

    branch_names: Sequence[str] = ()
    """Names of further images that can be asked for as features can."""

    @property
    def feature_layers(self) -> Sequence[Mapping[str, nn.Conv2d]]:
        """The convolution behind each feature's name, group by group, in the order of the forward pass."""
        raise NotImplementedError

    def through(self, zero_filled: Tensor, measured_image: Tensor, asked: dict[str, Tensor]) -> Tensor:
        """The image (B, C, H, W), of images less the phase of their zero frequency; fills in what `asked` names."""
        raise NotImplementedError

    def forward(self, zero_filled: Tensor, measured_image: Tensor, features: Collection[str] = ()):
        """Reconstruct (B, C, H, W); with `features`, return also a dict of the named maps (B, K, H, W)."""
        check_features(features, [*self.feature_names, *self.branch_names])
        asked = dict.fromkeys(features)
        phase = CommonPhase(zero_filled)
        image = phase.on(self.through(phase.off(zero_filled), phase.off(measured_image), asked))
        asked |= {name: phase.on(asked[name]) for name in self.branch_names if name in asked}
        return (image, asked) if features else image

    @property
    def feature_groups(self) -> list[list[str]]:
        """Names of the features, group by group."""
        return [list(layers) for layers in self.feature_layers]

    @property
    def feature_names(self) -> list[str]:
        """Names of all features, in the order of the forward pass."""
        return [name for group in self.feature_groups for name in group]

    @property
    def centre_features(self) -> list[str]:
        """The middle convolution of each group, where the paper transfers attention."""
        return [middle(group) for group in self.feature_groups]

    @property
    def feature_channels(self) -> dict[str, int]:
        """Channels of each feature map, by name."""
        return {name: layer.out_channels for layers in self.feature_layers for name, layer in layers.items()}

    def student_weights(self) -> dict[str, Tensor]:
        """What another network that starts from this one takes over, by the names of its state."""
        return self.state_dict()


def spread(of: int, count: int) -> list[int]:
    """`count` of the numbers 0 to `of` - 1, as far apart as can be."""
    return [round(n * (of - 1) / max(count - 1, 1)) for n in range(count)]


def middle(names: Sequence[str]) -> str:
    """The convolution in the middle: 3 of 5, 2 of 3, 6 of 11, 4 of 7."""
    return names[(len(names) + 1) // 2 - 1]


def check_features(asked: Collection[str], known: Sequence[str]) -> None:
    """`StudyError` for names that a network doesn't have."""
    if unknown := set(asked) - set(known):
        raise StudyError(f"no feature {sorted(unknown)}; this network has {known[0]} to {known[-1]}")


def build_model(kind: str, mask: np.ndarray, channels: int = 1, /, **options) -> Model:
    """Make the network registered as `kind` for a boolean (H, W) mask, unshifted, and images of `channels`; `StudyError`
    when there is none of that name, or an option is unknown or out of its range."""
    return MODELS.build(kind, options, mask=mask, channels=channels)


def begin_from(network: Model, other: Model, taken: Iterable[tuple[str, str]] | None = None) -> None:
    """Copy the weights that `other`, trained before, has for `network`; weights that it has none for stay.

    `taken` : (convolution of `other`, convolution of `network`), by the names of their features; what `other` has by the
    same names when not given. `StudyError` when they don't fit.
    """
    whole = type(network) is type(other)
    found = other.state_dict() if whole else network.state_dict() | other.student_weights()
    pair = ""
    try:
        if taken is None:
            network.load_state_dict(found)
            return
        theirs, own = ({n: c for group in m.feature_layers for n, c in group.items()} for m in (other, network))
        for source, target in taken:
            check_features([source], list(theirs))
            check_features([target], list(own))
            pair = f", {source} to {target}"
            own[target].load_state_dict(theirs[source].state_dict())
    except RuntimeError as error:
        found = " ".join(str(error).split())
        raise StudyError(f"weights to start from don't fit the network{pair}: {found}") from None


def parameter_count(model: nn.Module) -> int:
    """Number of trainable and fixed parameters."""
    return sum(p.numel() for p in model.parameters())


def multiply_accumulates(model: nn.Module) -> int:
    """Multiply-accumulates per pixel of the convolutions at stride 1: the number of their weights, biases left out."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d))
