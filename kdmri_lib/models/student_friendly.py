"""A teacher that grows up with its students: DC-CNN with student branches (Gayathri et al. 2023, arXiv 2304.05057)."""

from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from kdmri_lib.models.base import MODELS
from kdmri_lib.models.dccnn import DCCNN
from kdmri_lib.registry import checked_options


@MODELS.register("student_friendly")
class StudentFriendlyDCCNN(DCCNN):
    """A teacher DC-CNN; branch i goes on with a student's cascades i + 1 ... n after the teacher's cascade i.

    Its output and its features are the teacher's alone, so that it serves as a teacher like any other. The branches'
    images are features ``branch1`` ... ``branch{n-1}``, computed when they are asked for. All branches share one student's
    cascades, of which the first is in no branch, and doesn't train.

    Parameters
    ----------
    mask : boolean (H, W) undersampling mask, unshifted.
    student_convolutions : n_d of the student; `channels` and the rest as in `DCCNN`.
    """

    def __init__(
        self, mask: np.ndarray, student_convolutions: Annotated[int, Field(ge=2)] = 3, channels: int = 1, **options
    ):
        checked = checked_options(DCCNN, options, "model 'student_friendly'", given=("mask", "channels"))
        super().__init__(mask, channels=channels, **checked)
        self.student = DCCNN(mask, **{**options, "convolutions": student_convolutions, "channels": channels})
        self.student.cascades[0].requires_grad_(False)

    @property
    def branch_names(self) -> list[str]:
        return [f"branch{n}" for n in range(1, len(self.cascades))]

    def student_weights(self) -> dict[str, Tensor]:
        """The student's weights that training the teacher gave, by their names in a `DCCNN`: all cascades but the first."""
        return {k: v for k, v in self.student.state_dict().items() if not k.startswith("cascades.0.")}

    def through(self, zero_filled: Tensor, measured_image: Tensor, asked: dict[str, Tensor]) -> Tensor:
        image = zero_filled
        for number, layers in enumerate(self.feature_layers, 1):
            image = branch = self.through_cascade(layers, image, measured_image, asked)
            if f"branch{number}" in asked:
                for later in self.student.feature_layers[number:]:
                    branch = self.student.through_cascade(later, branch, measured_image, {})
                asked[f"branch{number}"] = branch
        return image
