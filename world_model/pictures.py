"""Pictures that a world model imagines.

Letters: B pictures, H and W their height and width [pixels], C channels, F numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..policy.filters.pictures import STEP, STRIDES


class PictureDecoder(nn.Module):
    """Vectors (B, F) -> pictures (B, H, W, C), 0 to 1.

    The network adds to `mean`, the mean picture of the data, (H, W, C).
    """

    mean: Tensor

    def __init__(self, shape: tuple[int, ...], channels: int, width: int) -> None:
        """`shape` is (H, W, C); `channels` of the last layer but one."""
        super().__init__()
        self.grid = (shape[0] // STEP, shape[1] // STEP)
        first = channels * 2 ** (len(STRIDES) - 1)
        self.enter = nn.Linear(width, first * self.grid[0] * self.grid[1])
        layers: list[nn.Module] = []
        inputs = first
        for number, stride in enumerate(reversed(STRIDES)):
            outputs = first // 2 ** (number + 1)
            if number == len(STRIDES) - 1:
                outputs = shape[2]
            layers += [
                nn.SiLU(),
                nn.ConvTranspose2d(inputs, outputs, 4, stride, padding=2 - stride // 2),
            ]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.register_buffer("mean", torch.zeros(shape))

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (B, F) -> pictures (B, H, W, C), about 0 to 1 and not clamped."""
        grid = self.enter(vectors).unflatten(1, (-1, *self.grid))
        return self.layers(grid).permute(0, 2, 3, 1) + self.mean


def as_bytes(pictures: Tensor) -> Tensor:
    """Pictures of 0 to 1 as uint8."""
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
