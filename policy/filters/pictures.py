"""Pictures as a filter sees them.

Letters: B pictures, H and W their height and width [pixels], C channels, F numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ...spec import ConfigError, ObsKey, shorten

STRIDES = (4, 2, 2)
"""A picture's side shrinks 16 times. A stride of 4 cuts patches, one of 2 overlaps by a pixel."""
STEP = 16
"""Sides are multiples of it [pixels]."""
LEAST, MOST = 32, 128


def check_sizes(images: Mapping[str, ObsKey]) -> None:
    """Raise ConfigError for the first picture whose sides a filter does not take."""
    for name, key in images.items():
        for side in key.shape[:2]:
            if side % STEP or not LEAST <= side <= MOST:
                raise ConfigError(
                    f"picture {shorten(name)} is {key.shape[0]} x {key.shape[1]}; a latent world "
                    f"model takes sides of {LEAST} to {MOST} pixels that are multiples of {STEP}: "
                    "record the play with smaller pictures, as task.options.cameras={CAMERA:64}"
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
            layers += [nn.Conv2d(inputs, outputs, 4, stride, padding=2 - stride // 2), nn.SiLU()]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        places = (shape[0] // STEP) * (shape[1] // STEP)
        self.out = nn.Linear(inputs * places, width)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures uint8 (B, H, W, C) -> (B, F)."""
        shown = pictures.permute(0, 3, 1, 2).float() / 255 - 0.5
        return self.out(self.layers(shown).flatten(1))
