"""Convolutions between pictures and vectors, for world models.

Letters: B pictures, H and W their height and width [pixels], C channels, F numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..spec import ConfigError, ObsKey, shorten

STRIDES = (4, 2, 2)
"""A picture's side shrinks 16 times."""
STEP = 16
"""Sides are multiples of it [pixels]."""
LEAST, MOST = 32, 128


def check_sizes(images: Mapping[str, ObsKey]) -> None:
    """Raise ConfigError for the first picture whose sides a world model does not take."""
    for name, key in images.items():
        for side in key.shape[:2]:
            if side % STEP or not LEAST <= side <= MOST:
                raise ConfigError(
                    f"picture {shorten(name)} is {key.shape[0]} x {key.shape[1]}; a world model "
                    f"takes sides of {LEAST} to {MOST} pixels that are multiples of {STEP}: record "
                    "the play with smaller pictures, as task.options.cameras={CAMERA:64}"
                )


class PictureEncoder(nn.Module):
    """Pictures uint8 (B, H, W, C) -> (B, F)."""

    def __init__(self, shape: tuple[int, ...], channels: int, width: int) -> None:
        """`shape` is (H, W, C); `channels` of the first layer, twice as many in each later one."""
        super().__init__()
        inputs = shape[2]
        layers: list[nn.Module] = []
        for number, stride in enumerate(STRIDES):
            outputs = channels * 2**number
            # A stride of 4 cuts patches; one of 2 overlaps its neighbours by a pixel.
            layers += [nn.Conv2d(inputs, outputs, 4, stride, padding=2 - stride // 2), nn.SiLU()]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        places = (shape[0] // STEP) * (shape[1] // STEP)
        self.out = nn.Linear(inputs * places, width)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures uint8 (B, H, W, C) -> (B, F)."""
        shown = pictures.permute(0, 3, 1, 2).float() / 255 - 0.5
        return self.out(self.layers(shown).flatten(1))


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
