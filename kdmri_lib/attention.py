"""What networks attend to, and how far two of them are apart (paper, section 3.2.1 and appendix D)."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdmri_lib.channels import as_channels
from kdmri_lib.datasets.prepared import Volume
from kdmri_lib.losses.attention_transfer import attention_map
from kdmri_lib.models.base import Model
from kdmri_lib.operators import Measurement, UndersamplingOperator


@torch.inference_mode()
def attention_maps(network: Model, measurement: Measurement) -> list[Tensor]:
    """Attention maps (B, H, W) of the middle convolution of each group, each sample's divided by its L2 norm."""
    _, features = network(*measurement, features=network.centre_features)
    maps = (attention_map(features[name]) for name in network.centre_features)
    return [F.normalize(q.flatten(1)).view_as(q) for q in maps]


def mean_attention_distances(
    network: Model, teacher: Model, operator: UndersamplingOperator, volumes: Iterable[Volume]
) -> np.ndarray:
    """Distance between two networks' normalised maps, the term of eq. 3, 0 to the root of two: a mean over each volume's
    slices, then over the volumes, (groups,)."""
    of_volumes = []
    for volume in volumes:
        measurement = operator(as_channels(volume.image))
        pairs = zip(attention_maps(network, measurement), attention_maps(teacher, measurement), strict=True)
        of_volumes.append([(a - b).flatten(1).norm(dim=1).double().mean().item() for a, b in pairs])
    return np.mean(of_volumes, axis=0)
