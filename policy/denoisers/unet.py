"""Conditional 1D U-Net over the action steps (Diffusion Policy, 2303.04137) with a noise level per action step.

The level enters through a FiLM of its own at every position, apart from the observation's FiLM, which is the same at
all positions. With one level for all positions the sum of both is the ordinary U-Net's FiLM of the joint vector (up to the
order of additions). Coarser scales see the mean of the level embeddings below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...spec import ConfigError
from .base import LevelEmbedding, Network


def _conv_block(inputs: int, outputs: int, kernel: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2),
        nn.GroupNorm(groups, outputs),
        nn.Mish(),
    )


class ResidualBlock(nn.Module):
    """Two convolutions with FiLM (1 + scale) h + shift between them, and a skip."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        level_width: int,
        context_width: int,
        kernel: int,
        groups: int,
    ) -> None:
        super().__init__()
        self.first = _conv_block(inputs, outputs, kernel, groups)
        self.second = _conv_block(outputs, outputs, kernel, groups)
        self.level_film = nn.Linear(level_width, 2 * outputs)
        self.context_film = nn.Linear(context_width, 2 * outputs, bias=False)
        if inputs != outputs:
            self.skip = nn.Conv1d(inputs, outputs, 1)
        else:
            self.skip = nn.Identity()

    def forward(self, h: Tensor, level: Tensor, context: Tensor) -> Tensor:
        """h (B, C, T), level's FiLM (B or 1, 2C', T), context's FiLM (B, 2C', 1) -> (B, C', T)."""
        scale, shift = (level + context).chunk(2, 1)
        return self.second(self.first(h) * (1 + scale) + shift) + self.skip(h)


class Stage(nn.Module):
    """Two residual blocks at one resolution."""

    def __init__(self, inputs: int, outputs: int, **block: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            (ResidualBlock(inputs, outputs, **block), ResidualBlock(outputs, outputs, **block))
        )

    def forward(self, h: Tensor, levels: Sequence[Tensor], contexts: Sequence[Tensor]) -> Tensor:
        """Run both blocks, each with its own FiLMs."""
        for block, level, context in zip(self.blocks, levels, contexts, strict=True):
            h = block(h, level, context)
        return h


@dataclass(frozen=True)
class UnetContext:
    """The observation's FiLM of every block: (B, 2C, 1) each."""

    films: tuple[Tensor, ...]


class ConditionalUnet(Network):
    """1D U-Net; `channels` per resolution, finest first. T must be divisible by 2^(resolutions - 1)."""

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
        super().__init__()
        self.width, self.channels, context_width = width, tuple(channels), tokens * token_width
        if any(c % groups for c in self.channels):
            raise ConfigError(
                f"denoiser.channels {list(channels)} must each be divisible by denoiser.groups ({groups})"
            )
        block = {
            "level_width": level_width,
            "context_width": context_width,
            "kernel": kernel,
            "groups": groups,
        }
        self.embedding = LevelEmbedding(level_width, level_width)
        ins = (width, *self.channels[:-1])
        self.down = nn.ModuleList(
            Stage(i, o, **block) for i, o in zip(ins, self.channels, strict=True)
        )
        self.shrink = nn.ModuleList(nn.Conv1d(c, c, 3, 2, 1) for c in self.channels[:-1])
        self.middle = Stage(self.channels[-1], self.channels[-1], **block)
        self.grow = nn.ModuleList(nn.ConvTranspose1d(b, a, 4, 2, 1) for a, b in self._pairs())
        self.up = nn.ModuleList(Stage(2 * a, a, **block) for a, _ in self._pairs())
        finest = self.channels[0]
        self.out = nn.Sequential(
            _conv_block(finest, finest, kernel, groups), nn.Conv1d(finest, width, 1)
        )

    def _pairs(self) -> list[tuple[int, int]]:
        """(finer, coarser) channel counts, coarsest pair first."""
        return list(zip(self.channels[:-1], self.channels[1:], strict=True))[::-1]

    def _placed_blocks(self) -> list[tuple[int, ResidualBlock]]:
        """Every block with its resolution (0 is the finest), in the order of the forward pass."""
        deepest = len(self.channels) - 1
        stages = [
            *enumerate(self.down),
            (deepest, self.middle),
            *((deepest - 1 - i, s) for i, s in enumerate(self.up)),
        ]
        return [(scale, block) for scale, stage in stages for block in stage.blocks]  # type: ignore[misc]

    def encode_context(self, tokens: Tensor) -> UnetContext:
        """Project the flattened tokens (B, K, E) to every block's FiLM."""
        vector = nn.functional.mish(tokens.flatten(1))  # (B, K E)
        return UnetContext(
            tuple(block.context_film(vector).unsqueeze(-1) for _, block in self._placed_blocks())
        )

    def modulation(self, level: Tensor) -> tuple[Tensor, ...]:
        """Every block's FiLM of the levels (B, T): (B, 2C, T') each, T' the block's own resolution."""
        self.check_steps(level.shape[1])
        embedded = [self.embedding(level)]  # (B, T, E)
        for _ in self.channels[1:]:
            pairs = embedded[-1].unflatten(1, (-1, 2))
            embedded.append((pairs[:, :, 0] + pairs[:, :, 1]) / 2)  # (B, T / 2, E)
        activated = [nn.functional.mish(e) for e in embedded]
        return tuple(
            block.level_film(activated[scale]).transpose(1, 2)
            for scale, block in self._placed_blocks()
        )

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        context: UnetContext,
        prepared: tuple[Tensor, ...] | None = None,
    ) -> Tensor:
        """F(x (B, T, A), level (B, T), context) -> (B, T, A)."""
        self.check_steps(x.shape[1])
        films = list(
            zip(
                self.modulation(level) if prepared is None else prepared, context.films, strict=True
            )
        )
        take = iter([(films[i], films[i + 1]) for i in range(0, len(films), 2)])
        h, skips = x.transpose(1, 2), []  # (B, A, T)
        for i, stage in enumerate(self.down):
            h = self._stage(stage, h, next(take))
            if i < len(self.shrink):
                skips.append(h)
                h = self.shrink[i](h)
        h = self._stage(self.middle, h, next(take))
        for grow, stage in zip(self.grow, self.up, strict=True):
            h = self._stage(stage, torch.cat((grow(h), skips.pop()), 1), next(take))
        return self.out(h).transpose(1, 2)

    @staticmethod
    def _stage(
        stage: nn.Module, h: Tensor, films: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> Tensor:
        (level_a, context_a), (level_b, context_b) = films
        return stage(h, (level_a, level_b), (context_a, context_b))

    def check_steps(self, steps: int) -> None:
        """Every resolution but the coarsest is halved."""
        factor = 2 ** (len(self.channels) - 1)
        if steps % factor:
            raise ConfigError(
                f"horizon.planned is {steps}; a U-Net of {len(self.channels)} resolutions needs a multiple of {factor}: "
                f"try {steps + factor - steps % factor}"
            )
