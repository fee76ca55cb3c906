"""Bicubic interpolation, the baseline that super-resolution is set beside."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bicubic(nn.Module):
    """Enlarge the low-resolution image by an integer `factor`; called like a network, (B, C, H, W) in and out.

    The zero-filled image is band-limited, so its every `factor`-th pixel in each direction is the low-resolution image
    that its k-space block gives; those pixels are interpolated bicubically back to all places.
    """

    def __init__(self, factor: int):
        super().__init__()
        self.factor = int(factor)

    def forward(self, zero_filled: Tensor, measured_image: Tensor) -> Tensor:
        low = zero_filled[..., :: self.factor, :: self.factor]
        axes = [
            2 * torch.arange(full) / self.factor / max(small - 1, 1) - 1
            for full, small in zip(zero_filled.shape[-2:], low.shape[-2:], strict=True)
        ]
        rows, columns = torch.meshgrid(*axes, indexing="ij")
        grid = torch.stack([columns, rows], dim=-1).to(zero_filled).expand(len(zero_filled), -1, -1, -1)
        return F.grid_sample(low, grid, mode="bicubic", padding_mode="border", align_corners=True)
