"""A small vision transformer (2010.11929); its convolutional stem learns faster (2106.14881)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ...spec import ConfigError


class VitBlock(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self, embed: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList((nn.LayerNorm(embed), nn.LayerNorm(embed)))
        self.qkv, self.out = nn.Linear(embed, 3 * embed), nn.Linear(embed, embed)
        self.mlp = nn.Sequential(
            nn.Linear(embed, 4 * embed), nn.GELU(), nn.Linear(4 * embed, embed)
        )

    def forward(self, h: Tensor) -> Tensor:
        """(B, N, E) -> (B, N, E)."""
        qkv = self.qkv(self.norms[0](h)).unflatten(-1, (3, self.heads, -1))
        query_key_value = qkv.permute(2, 0, 3, 1, 4)  # (3, B, heads, N, E / heads)
        attended = scaled_dot_product_attention(*query_key_value)
        h = h + self.out(attended.transpose(1, 2).flatten(2))
        return h + self.mlp(self.norms[1](h))


class Vit(nn.Module):
    """Pictures (B, 3, H, W) -> features (B, E); four convolutions of stride 2 make the patches."""

    def __init__(
        self, embed: int = 192, layers: int = 4, heads: int = 3, most_patches: int = 1024
    ) -> None:
        super().__init__()
        if embed % heads or embed % 8:
            raise ConfigError(
                f"encoder.embed ({embed}) must be divisible by encoder.heads ({heads}) and by 8"
            )
        widths = (3, embed // 8, embed // 4, embed // 2, embed)
        stem: list[nn.Module] = []
        for before, after in pairwise(widths):
            stem += [
                nn.Conv2d(before, after, 3, 2, 1, bias=False),
                nn.GroupNorm(max(1, after // 16), after),
                nn.ReLU(),
            ]
        self.stem = nn.Sequential(*stem, nn.Conv2d(embed, embed, 1))
        self.position = nn.Parameter(torch.randn(most_patches, embed) * 0.02)
        self.summary = nn.Parameter(torch.zeros(1, 1, embed))
        self.blocks = nn.Sequential(*(VitBlock(embed, heads) for _ in range(layers)))
        self.norm, self.width = nn.LayerNorm(embed), embed

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W), values in [-1, 1] -> (B, width): the summary token at the end."""
        patches = self.stem(pictures).flatten(2).transpose(1, 2)  # (B, N, E)
        if patches.shape[1] > len(self.position):
            raise ConfigError(
                f"pictures of {patches.shape[1]} patches; at most {len(self.position)} are "
                "allowed: take smaller pictures"
            )
        tokens = patches + self.position[: patches.shape[1]]
        summary = self.summary.expand(len(tokens), -1, -1)
        return self.norm(self.blocks(torch.cat((summary, tokens), 1))[:, 0])
