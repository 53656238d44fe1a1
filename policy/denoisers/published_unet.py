"""The 1D U-Net of Diffusion Policy as published (2303.04137), for weights that others have trained.

It takes one noise index for the whole plan, joined with the observation into one FiLM. The names of
the weights are LeRobot's, so that its checkpoints load as they are. The index's part of each FiLM
is worked out once per grid, the observation's once per observation. The published code repeats both
at every evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mish

from ...spec import ConfigError
from ..diffusion.schedule import ddpm_levels
from .base import ModuleSequence, Network
from .unet import add_films, check_halving

SNAP = 0.01
"""An index this near to a whole number is rounded to it: levels come as float32."""


class ConvolutionBlock(nn.Module):
    """Convolution, GroupNorm, Mish; `block` is LeRobot's name of the three."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2),
            nn.GroupNorm(groups, outputs),
            nn.Mish(),
        )

    def forward(self, h: Tensor) -> Tensor:
        """(B, C, T) -> (B, C', T)."""
        return self.block(h)


class UnetSizes(NamedTuple):
    """Sizes that all blocks share; `scaled`: their FiLM scales as well as shifts."""

    condition: int
    kernel: int
    groups: int
    scaled: bool


class PublishedBlock(nn.Module):
    """Two convolutions with a FiLM between them, and a skip."""

    def __init__(self, inputs: int, outputs: int, sizes: UnetSizes) -> None:
        super().__init__()
        self.scaled = sizes.scaled
        self.conv1 = ConvolutionBlock(inputs, outputs, sizes.kernel, sizes.groups)
        film = outputs
        if sizes.scaled:
            film = 2 * outputs
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(sizes.condition, film))
        self.conv2 = ConvolutionBlock(outputs, outputs, sizes.kernel, sizes.groups)
        if inputs == outputs:
            self.residual_conv = nn.Identity()
        else:
            self.residual_conv = nn.Conv1d(inputs, outputs, 1)

    def project(self, activated: Tensor, first: int) -> Tensor:
        """What a part of the condition, (B, N) after Mish, adds to the FiLM: (B, F).

        `first` is the column of the weight where the part begins.
        """
        weight = self.cond_encoder.get_parameter("1.weight")
        return activated @ weight[:, first : first + activated.shape[-1]].T

    @property
    def bias(self) -> Tensor:
        """The FiLM's bias (F,)."""
        return self.cond_encoder.get_parameter("1.bias")

    def forward(self, h: Tensor, film: Tensor) -> Tensor:
        """h (B, C, T), film (B or 1, 2 C' or C') -> (B, C', T)."""
        out = self.conv1(h)
        film = film.unsqueeze(-1)
        if self.scaled:
            scale, shift = film.chunk(2, 1)
            out = scale * out + shift
        else:
            out = out + film
        return self.conv2(out) + self.residual_conv(h)


class PublishedStage(nn.ModuleList):
    """Two blocks, then what changes the resolution; LeRobot's names are their numbers."""

    def __init__(self, inputs: int, outputs: int, sizes: UnetSizes, *resize: nn.Module) -> None:
        first = PublishedBlock(inputs, outputs, sizes)
        super().__init__((first, PublishedBlock(outputs, outputs, sizes), *resize))

    def blocks(self) -> tuple[PublishedBlock, PublishedBlock]:
        """Both blocks."""
        first, second = self[0], self[1]
        assert isinstance(first, PublishedBlock) and isinstance(second, PublishedBlock)
        return first, second

    def run_blocks(self, h: Tensor, films: Iterator[Tensor]) -> Tensor:
        """h (B, C, T) -> (B, C', T); takes the next two of `films`."""
        for block in self.blocks():
            h = block(h, next(films))
        return h


@dataclass(frozen=True)
class PublishedContext:
    """What the observation adds to the FiLM of every block, in the order of the forward pass."""

    films: tuple[Tensor, ...]  # (B, F) each


class PublishedUnet(Network[PublishedContext, tuple[Tensor, ...]]):
    """U-Net of `channels` per resolution, finest first, trained with `indices` noise indices.

    With `scaled` its FiLM scales as well as shifts.
    """

    levels: Tensor

    def __init__(
        self,
        width: int,
        tokens: int,
        token_width: int,
        channels: Sequence[int] = (512, 1024, 2048),
        kernel: int = 5,
        groups: int = 8,
        step_width: int = 128,
        scaled: bool = True,
        indices: int = 100,
    ) -> None:
        """Build it with these options.

        channels: channels per resolution, finest first
        kernel: action steps that a convolution sees
        groups: groups of GroupNorm
        step_width: numbers of the noise index's embedding
        scaled: whether FiLM scales as well as shifts
        indices: noise indices that it was trained with
        """
        super().__init__()
        self.width, self.channels = width, tuple(channels)
        self.step_width = step_width
        self.register_buffer("levels", ddpm_levels(indices), persistent=False)
        sizes = UnetSizes(step_width + tokens * token_width, kernel, groups, scaled)
        finest, coarsest = self.channels[0], self.channels[-1]
        self.diffusion_step_encoder = nn.Sequential(
            nn.Identity(),
            nn.Linear(step_width, 4 * step_width),
            nn.Mish(),
            nn.Linear(4 * step_width, step_width),
        )
        self.down_modules = ModuleSequence[PublishedStage]()
        inputs = width
        for count in self.channels[:-1]:
            shrink = nn.Conv1d(count, count, 3, 2, 1)
            self.down_modules.append(PublishedStage(inputs, count, sizes, shrink))
            inputs = count
        self.down_modules.append(PublishedStage(inputs, coarsest, sizes, nn.Identity()))
        self.mid_modules = PublishedStage(coarsest, coarsest, sizes)
        self.up_modules = ModuleSequence[PublishedStage]()
        for coarser, finer in pairwise(reversed(self.channels)):
            grow = nn.ConvTranspose1d(finer, finer, 4, 2, 1)
            self.up_modules.append(PublishedStage(2 * coarser, finer, sizes, grow))
        self.final_conv = nn.Sequential(
            ConvolutionBlock(finest, finest, kernel, 8), nn.Conv1d(finest, width, 1)
        )

    def _blocks(self) -> list[PublishedBlock]:
        """Every block in the order of the forward pass."""
        blocks = []
        for stage in (*self.down_modules, self.mid_modules, *self.up_modules):
            blocks += stage.blocks()
        return blocks

    def encode_context(self, tokens: Tensor) -> PublishedContext:
        """The observation's part of every FiLM, from tokens (B, K, E)."""
        activated = mish(tokens.flatten(1))
        films = tuple(block.project(activated, self.step_width) for block in self._blocks())
        return PublishedContext(films)

    def index(self, level: Tensor) -> Tensor:
        """Noise indices of levels (any shape), also between whole numbers."""
        table, wanted = self.levels, level.to(self.levels.dtype)
        above = torch.searchsorted(table, wanted.contiguous()).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        index = (above - 1 + (wanted - low) / (high - low)).clamp(0, len(table) - 1)
        whole = index.round()
        return torch.where((index - whole).abs() < SNAP, whole, index).float()

    def modulation(self, level: Tensor) -> tuple[Tensor, ...]:
        """The noise index's part of every FiLM, bias included: levels (B, T) -> (B, F) each.

        Raises ConfigError for levels that differ along T.
        """
        self._check_constant(level)
        half = self.step_width // 2
        rates = torch.arange(half, device=level.device) * (-math.log(10000.0) / (half - 1))
        angle = self.index(level[:, 0]).unsqueeze(-1) * torch.exp(rates)  # (B, E / 2)
        embedded = mish(self.diffusion_step_encoder(torch.cat((angle.sin(), angle.cos()), -1)))
        return tuple(block.project(embedded, 0) + block.bias for block in self._blocks())

    @staticmethod
    def _check_constant(level: Tensor) -> None:
        """Raise ConfigError for levels (B, T) that differ along T; a traced network cannot look."""
        if torch.compiler.is_compiling():
            return
        if bool((level != level[:, :1]).any()):
            raise ConfigError(
                "this network was trained with one noise level for a whole plan: it can be sampled "
                "fresh, warm-started (rti), or guided (rtc), but not streamed"
            )

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        context: PublishedContext,
        prepared: tuple[Tensor, ...] | None = None,
    ) -> Tensor:
        """F(x (B, T, A), level (B, T), context) -> (B, T, A)."""
        self.check_steps(x.shape[1])
        if prepared is None:
            prepared = self.modulation(level)
        films = iter(add_films(prepared, context.films))
        h = x.transpose(1, 2)  # (B, A, T)
        skips = []
        for stage in self.down_modules:
            h = stage.run_blocks(h, films)
            skips.append(h)
            h = stage[2](h)
        h = self.mid_modules.run_blocks(h, films)
        for stage in self.up_modules:
            h = stage.run_blocks(torch.cat((h, skips.pop()), 1), films)
            h = stage[2](h)
        return self.final_conv(h).transpose(1, 2)

    def check_steps(self, steps: int) -> None:
        """Raise ConfigError unless every resolution but the coarsest can be halved."""
        check_halving(steps, len(self.channels))
