"""Pictures that a world model imagines.

Letters: B pictures, H and W their height and width [pixels], C channels, F numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..policy.filters.pictures import STEP, STRIDES

STILL = 0.5 / 255
"""A pixel never changes where its standard deviation is smaller [share of the range]."""
LEAST = 0.02
"""Smaller standard deviations count as this one: the noise of a camera is no motion."""
FRAMES = 512
"""Pictures that are looked at at a time."""


class PictureDecoder(nn.Module):
    """Vectors (B, F) -> pictures (B, H, W, C), 0 to 1.

    Each pixel is told as its difference from its mean, in its own standard deviations: small things
    that pass seldom weigh as much as large ones, and what never changes is always right.
    """

    mean: Tensor  # (H, W, C) of the data
    spread: Tensor  # (H, W, C) their standard deviation; 0 for what never changes

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
        self.register_buffer("spread", torch.ones(shape))

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors (B, F) -> pictures (B, H, W, C), about 0 to 1 and not clamped."""
        grid = self.enter(vectors).unflatten(1, (-1, *self.grid))
        return self.layers(grid).permute(0, 2, 3, 1) * self.spread + self.mean

    def fit_statistics(self, pictures: NDArray[np.uint8]) -> None:
        """Take mean and standard deviation from pictures (N, H, W, C)."""
        count = len(pictures)
        total = np.zeros(pictures.shape[1:])
        squares = np.zeros(pictures.shape[1:])
        for first in range(0, count, FRAMES):
            shown = pictures[first : first + FRAMES] / 255
            total += shown.sum(0)
            squares += np.square(shown).sum(0)
        mean = total / count
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        self.mean.copy_(torch.as_tensor(mean))
        self.spread.copy_(torch.as_tensor(np.where(spread > STILL, np.maximum(spread, LEAST), 0)))

    def measure_error(self, pictures: Tensor, true: Tensor) -> Tensor:
        """Mean squared error (B,) of pictures of 0 to 1 against uint8 ones, in spreads.

        It is 1 for the mean picture, and counts what ever changes.
        """
        moving = self.spread > 0
        off = (pictures - true.float() / 255)[:, moving] / self.spread[moving]
        if off.shape[1] == 0:
            return off.sum(1)
        return off.square().mean(1)


def as_bytes(pictures: Tensor) -> Tensor:
    """Pictures of 0 to 1 as uint8."""
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
