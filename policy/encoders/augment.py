"""Random crops and colour jitter of pictures in training, on their device; else a centre crop."""

from __future__ import annotations

import torch
from torch import Tensor

from ...spec import ConfigError
from ..training.processes import draw_rows

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in brightness (Rec. 601)."""


def random_crop(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (B, C, H, W) -> crops (B, C, h, w) of `size` (h, w), each at a place of its own."""
    height, width = size
    rows, columns = pictures.shape[-2:]
    count, device = len(pictures), pictures.device

    def draw(places: int) -> Tensor:
        return draw_rows(lambda n: torch.randint(places, (n, 1), device=device), count)

    top = draw(rows - height + 1) + torch.arange(height, device=device)
    left = draw(columns - width + 1) + torch.arange(width, device=device)
    picked = torch.gather(
        pictures, 2, top[:, None, :, None].expand(-1, pictures.shape[1], -1, columns)
    )
    return torch.gather(picked, 3, left[:, None, None, :].expand(-1, pictures.shape[1], height, -1))


def centre_crop(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (..., H, W) -> their middle (..., h, w) of `size` (h, w)."""
    top = (pictures.shape[-2] - size[0]) // 2
    left = (pictures.shape[-1] - size[1]) // 2
    return pictures[..., top : top + size[0], left : left + size[1]]


def jitter(pictures: Tensor, strength: float) -> Tensor:
    """Change brightness, contrast and saturation of pictures (B, 3, H, W) in [-1, 1].

    Each picture gets three factors of its own, uniform in 1 - strength .. 1 + strength.
    """
    uniform = draw_rows(
        lambda n: torch.rand(3, n, 1, 1, 1, device=pictures.device), len(pictures), dim=1
    )
    factors = 1 + strength * (2 * uniform - 1)  # (3, B, 1, 1, 1)
    bright = factors[0]
    contrast, saturation = factors[1], factors[2]
    shown = ((pictures + 1) / 2 * bright).clamp(0, 1)
    shown = (shown.mean((1, 2, 3), keepdim=True) * (1 - contrast) + shown * contrast).clamp(0, 1)
    luma = torch.tensor(LUMA, device=shown.device, dtype=shown.dtype).view(1, 3, 1, 1)
    grey = (shown * luma).sum(1, keepdim=True)
    return 2 * (grey * (1 - saturation) + shown * saturation).clamp(0, 1) - 1


def crop_size(size: tuple[int, int], share: float) -> tuple[int, int]:
    """Height and width of a crop that keeps `share` of each side of `size` [pixels].

    Raises ConfigError unless 0 < share <= 1.
    """
    if not 0 < share <= 1:
        raise ConfigError(
            f"encoder.crop is {share}; it is the share of each side that is kept, above 0 and at "
            "most 1"
        )
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))
