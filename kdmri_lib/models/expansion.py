"""Over-parameterised training: more weights while a network trains, the same network before and after."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class _Expanded(nn.Module):
    """W + W2 W1, for W (out, in, 3, 3): beside a 3x3 convolution another to `channels` channels, W1, and a 1x1 back, W2."""

    def __init__(self, weight: Tensor, channels: int):
        super().__init__()
        fan_in = weight[0].numel()
        self.inner = nn.Parameter(torch.randn(channels, fan_in, device=weight.device) / fan_in**0.5)
        # Zero, so that training begins with the network as it is.
        self.outer = nn.Parameter(torch.zeros(len(weight), channels, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return weight + (self.outer @ self.inner).view_as(weight)


def expand(network: nn.Module, channels: int) -> None:
    """Train each convolution of `network` as the sum of itself and of a product of two (Arora et al. 2018, "On the
    optimization of deep networks: implicit acceleration by overparameterization"; per convolution as Guo et al. 2020,
    "ExpandNets"). The network computes what it did, until its weights change."""
    for layer in [m for m in network.modules() if isinstance(m, nn.Conv2d)]:
        parametrize.register_parametrization(layer, "weight", _Expanded(layer.weight, channels))


def collapse(network: nn.Module) -> None:
    """Make an expanded network the plain one that computes the same; a plain one stays as it is."""
    for layer in network.modules():
        if parametrize.is_parametrized(layer, "weight") and isinstance(layer.parametrizations.weight[0], _Expanded):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
