"""ResNet-18 with GroupNorm (1512.03385; 1803.08494) and a spatial softmax.

Diffusion Policy sees with it (2303.04137).

GroupNorm is used because averaged weights (EMA) and batch statistics do not go together. The
spatial softmax (1504.00702, section 5) reads where features are, not how strong: K expected
positions instead of a grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

CHANNELS_PER_GROUP = 16


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, channels // CHANNELS_PER_GROUP), channels)


class ResidualBlock2d(nn.Module):
    """Two 3x3 convolutions and a skip."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList((_norm(outputs), _norm(outputs)))
        if stride == 1 and inputs == outputs:
            self.skip = nn.Identity()
        else:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs)
            )

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        inner = self.norms[1](self.second(relu(self.norms[0](self.first(h)))))
        return relu(inner + self.skip(h))


class SpatialSoftmax(nn.Module):
    """(B, C, H, W) -> (B, 2 K): expected x and y, in [-1, 1], of K maps mixed from C channels."""

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.maps = nn.Conv2d(channels, keypoints, 1)

    def forward(self, h: Tensor) -> Tensor:
        """Expected positions, x of all maps first."""
        return expected_positions(self.maps(h)).flatten(1)


def expected_positions(maps: Tensor) -> Tensor:
    """(B, K, H, W) -> (B, 2, K): mean x and y, in [-1, 1], of each map's softmax.

    (1504.00702, section 5.)
    """
    share = maps.flatten(2).softmax(-1)  # (B, K, H W)
    y = torch.linspace(-1, 1, maps.shape[2], device=maps.device, dtype=share.dtype)
    x = torch.linspace(-1, 1, maps.shape[3], device=maps.device, dtype=share.dtype)
    grid = torch.stack((x.repeat(len(y)), y.repeat_interleave(len(x))))  # (2, H W)
    return torch.einsum("bkp,dp->bdk", share, grid)


class ResNet(nn.Module):
    """Pictures (B, 3, H, W) -> features (B, 2 K). `channels` 64 and four stages are ResNet-18."""

    def __init__(self, channels: int = 64, stages: int = 4, keypoints: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 7, 2, 3, bias=False),
            _norm(channels),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        blocks = [ResidualBlock2d(channels, channels, 1), ResidualBlock2d(channels, channels, 1)]
        width = channels
        for _ in range(stages - 1):
            blocks += [
                ResidualBlock2d(width, 2 * width, 2),
                ResidualBlock2d(2 * width, 2 * width, 1),
            ]
            width = 2 * width
        self.blocks = nn.Sequential(*blocks)
        self.head = SpatialSoftmax(width, keypoints)
        self.width = 2 * keypoints

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W), values in [-1, 1] -> (B, width)."""
        return self.head(self.blocks(self.stem(pictures)))
