"""1D U-Net over the action steps (Diffusion Policy, 2303.04137) with a noise level per step.

The level enters through a FiLM of its own at every position. The observation's FiLM is apart from
it and the same at all positions. With one level for all positions the sum of both is the ordinary
U-Net's FiLM of the joint vector, up to the order of additions. Coarser scales see the mean of the
level embeddings below them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mish

from ...spec import ConfigError
from .base import LevelEmbedding, ModuleSequence, Network


class UnetSizes(NamedTuple):
    """Sizes that all residual blocks of a U-Net share."""

    level_width: int
    context_width: int
    kernel: int
    groups: int


def _conv_block(inputs: int, outputs: int, kernel: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2),
        nn.GroupNorm(groups, outputs),
        nn.Mish(),
    )


class ResidualBlock(nn.Module):
    """Two convolutions with FiLM (1709.07871), (1 + scale) h + shift, between them, and a skip."""

    def __init__(self, inputs: int, outputs: int, sizes: UnetSizes) -> None:
        super().__init__()
        self.first = _conv_block(inputs, outputs, sizes.kernel, sizes.groups)
        self.second = _conv_block(outputs, outputs, sizes.kernel, sizes.groups)
        self.level_film = nn.Linear(sizes.level_width, 2 * outputs)
        self.context_film = nn.Linear(sizes.context_width, 2 * outputs, bias=False)
        if inputs != outputs:
            self.skip = nn.Conv1d(inputs, outputs, 1)
        else:
            self.skip = nn.Identity()

    def forward(self, h: Tensor, film: Tensor) -> Tensor:
        """h (B, C, T), scale and shift (B, 2 C', T) -> (B, C', T)."""
        scale, shift = film.chunk(2, 1)
        return self.second(self.first(h) * (1 + scale) + shift) + self.skip(h)


class Stage(nn.Module):
    """Two residual blocks at one resolution."""

    def __init__(self, inputs: int, outputs: int, sizes: UnetSizes) -> None:
        super().__init__()
        self.blocks = ModuleSequence[ResidualBlock](
            (ResidualBlock(inputs, outputs, sizes), ResidualBlock(outputs, outputs, sizes))
        )

    def forward(self, h: Tensor, films: Iterator[Tensor]) -> Tensor:
        """h (B, C, T) -> (B, C', T); takes the next two of `films`."""
        for block in self.blocks:
            h = block(h, next(films))
        return h


@dataclass(frozen=True)
class UnetContext:
    """The observation's FiLM of every block, in the order of the forward pass."""

    films: tuple[Tensor, ...]  # (B, 2 C, 1) each


class ConditionalUnet(Network[UnetContext, tuple[Tensor, ...]]):
    """1D U-Net of `channels` per resolution, finest first; T must divide by 2^(resolutions - 1)."""

    def __init__(
        self,
        width: int,
        tokens: int,
        token_width: int,
        channels: Sequence[int] = (64, 128, 256),
        kernel: int = 5,
        groups: int = 8,
        level_width: int = 64,
    ) -> None:
        """Build it with these options.

        channels: channels per resolution, finest first
        kernel: action steps that a convolution sees
        groups: groups of GroupNorm; they divide every number of channels
        level_width: numbers of the noise level's embedding
        """
        super().__init__()
        self.width, self.channels = width, tuple(channels)
        if any(count % groups for count in self.channels):
            raise ConfigError(
                f"denoiser.channels {list(channels)} must each be divisible by denoiser.groups "
                f"({groups})"
            )
        sizes = UnetSizes(level_width, tokens * token_width, kernel, groups)
        finest, coarsest = self.channels[0], self.channels[-1]
        self.embedding = LevelEmbedding(level_width, level_width)
        self.down, self.shrink = ModuleSequence[Stage](), nn.ModuleList()
        self.down.append(Stage(width, finest, sizes))
        for finer, coarser in pairwise(self.channels):
            self.down.append(Stage(finer, coarser, sizes))
        for count in self.channels[:-1]:
            self.shrink.append(nn.Conv1d(count, count, 3, 2, 1))
        self.middle = Stage(coarsest, coarsest, sizes)
        self.grow, self.up = nn.ModuleList(), ModuleSequence[Stage]()
        for coarser, finer in pairwise(reversed(self.channels)):
            self.grow.append(nn.ConvTranspose1d(coarser, finer, 4, 2, 1))
        for count in reversed(self.channels[:-1]):
            self.up.append(Stage(2 * count, count, sizes))
        self.out = nn.Sequential(
            _conv_block(finest, finest, kernel, groups), nn.Conv1d(finest, width, 1)
        )

    def _list_blocks(self) -> list[tuple[int, ResidualBlock]]:
        """Every block with its resolution (0 is the finest), in the order of the forward pass."""
        coarsest = len(self.channels) - 1
        scales = (*range(coarsest + 1), coarsest, *reversed(range(coarsest)))
        placed = []
        for scale, stage in zip(scales, (*self.down, self.middle, *self.up), strict=True):
            for block in stage.blocks:
                placed.append((scale, block))
        return placed

    def encode_context(self, tokens: Tensor) -> UnetContext:
        """Project the flattened tokens (B, K, E) to every block's FiLM."""
        vector = mish(tokens.flatten(1))  # (B, K E)
        films = []
        for _, block in self._list_blocks():
            films.append(block.context_film(vector).unsqueeze(-1))
        return UnetContext(tuple(films))

    def modulation(self, level: Tensor) -> tuple[Tensor, ...]:
        """Every block's FiLM of levels (B, T): (B, 2 C, T') each, T' the block's resolution."""
        self.check_steps(level.shape[1])
        embedded = self.embedding(level)  # (B, T, E)
        activated = [mish(embedded)]
        for _ in self.channels[1:]:
            pairs = embedded.unflatten(1, (-1, 2))
            embedded = (pairs[:, :, 0] + pairs[:, :, 1]) / 2  # (B, T / 2, E)
            activated.append(mish(embedded))
        films = []
        for scale, block in self._list_blocks():
            films.append(block.level_film(activated[scale]).transpose(1, 2))
        return tuple(films)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        context: UnetContext,
        prepared: tuple[Tensor, ...] | None = None,
    ) -> Tensor:
        """F(x (B, T, A), level (B, T), context) -> (B, T, A)."""
        self.check_steps(x.shape[1])
        if prepared is None:
            prepared = self.modulation(level)
        films = iter(add_films(prepared, context.films))
        h = x.transpose(1, 2)  # (B, A, T)
        skips = []
        for scale, stage in enumerate(self.down):
            h = stage(h, films)
            if scale < len(self.shrink):
                skips.append(h)
                h = self.shrink[scale](h)
        h = self.middle(h, films)
        for grow, stage in zip(self.grow, self.up, strict=True):
            h = stage(torch.cat((grow(h), skips.pop()), 1), films)
        return self.out(h).transpose(1, 2)

    def check_steps(self, steps: int) -> None:
        """Raise ConfigError unless every resolution but the coarsest can be halved."""
        check_halving(steps, len(self.channels))


def add_films(levels: Sequence[Tensor], contexts: Sequence[Tensor]) -> list[Tensor]:
    """The FiLM of each block: what the levels say plus what the observation says."""
    films = []
    for level, context in zip(levels, contexts, strict=True):
        films.append(level + context)
    return films


def check_halving(steps: int, resolutions: int) -> None:
    """Raise ConfigError unless plans of `steps` can be halved for all `resolutions` but one."""
    factor = 2 ** (resolutions - 1)
    if steps % factor:
        raise ConfigError(
            f"horizon.planned is {steps}; a U-Net of {resolutions} resolutions needs a multiple of "
            f"{factor}: try {steps + factor - steps % factor}"
        )
