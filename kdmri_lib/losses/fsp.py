"""Flow of solution procedure (Yim et al. 2017)."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdmri_lib.errors import StudyError
from kdmri_lib.losses.base import LOSSES, Loss, Prediction, groups_of_both, named
from kdmri_lib.models.base import Model


def flow_matrix(first: Tensor, second: Tensor) -> Tensor:
    """G_ij = (1 / HW) sum over pixels of F1_i F2_j: (B, C1, H, W) and (B, C2, H, W) to (B, C1, C2)."""
    # Pixels first, sample by sample: features are stored channels last, and are not copied so.
    maps = (f.permute(0, 2, 3, 1).flatten(1, 2) for f in (first, second))
    return torch.stack([a.T @ b for a, b in zip(*maps, strict=True)]) / (first.shape[-2] * first.shape[-1])


Flows = Annotated[Sequence[Annotated[Sequence[str], Field(min_length=4, max_length=4)]], Field(min_length=1)]


@LOSSES.register("fsp")
class FSP(Loss):
    """Mean over the batch of || G_T - G_S ||_F^2, summed over the flows (Yim et al., eq. 2).

    G is the flow matrix between two layers' maps, in the study the first and the penultimate convolution of a cascade, so
    teacher and student must agree in channels; `flows` are (teacher from, teacher to, student from, student to) names of
    features. The published KD-MRI code holds no FSP. No gradient passes to the teacher.
    """

    label = "FSP"

    def __init__(self, flows: Flows):
        super().__init__()
        groups = named(flows, 4, "flows")
        self.pairs = tuple(pair for t1, t2, s1, s2 in groups for pair in ((t1, s1), (t2, s2)))

    @classmethod
    def places(cls, teacher: Model, student: Model) -> dict:
        flows = [[t[0], t[-2], s[0], s[-2]] for t, s in groups_of_both(teacher, student)]
        theirs, own = teacher.feature_channels, student.feature_channels
        if any(theirs[t1] != own[s1] or theirs[t2] != own[s2] for t1, t2, s1, s2 in flows):
            raise StudyError("loss 'fsp': teacher and student differ in channels")
        return {"flows": flows}

    def forward(self, target: Tensor, prediction: Prediction, teacher: Prediction) -> Tensor:
        maps = self.feature_pairs(prediction, teacher)
        return sum(
            (flow_matrix(t1, t2) - flow_matrix(s1, s2)).square().sum(dim=(1, 2)).mean()
            for (s1, t1), (s2, t2) in zip(maps[::2], maps[1::2], strict=True)
        )
