"""Networks, named by declarations, and facts about them that tables need."""

import numpy as np
from torch import nn

from kdmri_lib.declarations import Network
from kdmri_lib.errors import StudyError
from kdmri_lib.models.dccnn import DCCNN
from kdmri_lib.models.student_friendly import StudentFriendlyDCCNN
from kdmri_lib.models.vdsr import VDSR

MODELS = {"dccnn": DCCNN, "student_friendly": StudentFriendlyDCCNN, "vdsr": VDSR}


def build_model(kind: str, mask: np.ndarray, **options) -> nn.Module:
    """Make the network that a declaration names; `StudyError` when there is none of that name."""
    if kind not in MODELS:
        raise StudyError(f"unknown model '{kind}'; known: {', '.join(sorted(MODELS))}")
    try:
        return MODELS[kind](mask, **options)
    except TypeError as error:
        raise StudyError(f"model '{kind}': {error}") from None


def begin_from(network: nn.Module, other: nn.Module) -> None:
    """Copy the weights of `other`, trained before, into `network`.

    A student-friendly teacher gives a student the cascades that were trained in its branches; the first stays as it is.
    """
    student = isinstance(other, StudentFriendlyDCCNN) and not isinstance(network, StudentFriendlyDCCNN)
    found = other.student_weights() if student else other.state_dict()
    try:
        network.load_state_dict({**network.state_dict(), **found} if student else found)
    except RuntimeError as error:
        raise StudyError(f"weights to start from don't fit the network: {error}") from None


def parameter_count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def multiply_accumulates(model: nn.Module) -> int:
    """Multiply-accumulates a pixel of the convolutions at stride 1: the number of their weights, biases left out."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d))


def network_of(declaration: Network) -> nn.Module:
    """The declared network with a mask that doesn't matter, for counting and for its feature names."""
    return build_model(declaration.kind, np.ones((8, 8), dtype=bool), **declaration.options)
