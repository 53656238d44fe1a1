"""The 1D U-Net of Diffusion Policy as it was published (2303.04137), for weights that others have trained.

One noise index for the whole plan, joined with the observation into one FiLM. The names of the weights are LeRobot's, so
that its checkpoints load as they are. What the index adds to each FiLM is worked out per grid, what the observation adds
once per observation: the published code does both again at every evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mish

from ...spec import ConfigError
from ..diffusion.schedule import ddpm_levels
from .base import Network

SNAP = 0.01
"""An index this near to a whole number is that number: levels come as float32."""


def _convolution(inputs: int, outputs: int, kernel: int, groups: int) -> nn.Module:
    block = nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2),
        nn.GroupNorm(groups, outputs),
        nn.Mish(),
    )
    return nn.ModuleDict({"block": block})


class PublishedBlock(nn.Module):
    """Two convolutions with a FiLM between them, and a skip."""

    def __init__(
        self, inputs: int, outputs: int, condition: int, kernel: int, groups: int, scaled: bool
    ) -> None:
        super().__init__()
        self.scaled = scaled
        self.conv1 = _convolution(inputs, outputs, kernel, groups)
        self.cond_encoder = nn.Sequential(
            nn.Mish(), nn.Linear(condition, outputs * (2 if scaled else 1))
        )
        self.conv2 = _convolution(outputs, outputs, kernel, groups)
        if inputs == outputs:
            self.residual_conv = nn.Identity()
        else:
            self.residual_conv = nn.Conv1d(inputs, outputs, 1)

    def share(self, activated: Tensor, first: int) -> Tensor:
        """What a part of the condition, (..., n) after Mish, adds to the FiLM: its columns of the weight begin at `first`."""
        weight = self.cond_encoder[1].weight[:, first : first + activated.shape[-1]]  # type: ignore[index]
        return activated @ weight.T

    @property
    def bias(self) -> Tensor:
        """The FiLM's bias."""
        return self.cond_encoder[1].bias  # type: ignore[return-value]

    def forward(self, h: Tensor, film: Tensor) -> Tensor:
        """h (B, C, T), film (B or 1, 2 C' or C') -> (B, C', T)."""
        out, film = self.conv1["block"](h), film.unsqueeze(-1)  # type: ignore[index]
        if self.scaled:
            scale, shift = film.chunk(2, 1)
            out = scale * out + shift
        else:
            out = out + film
        return self.conv2["block"](out) + self.residual_conv(h)  # type: ignore[index]


@dataclass(frozen=True)
class PublishedContext:
    """What the observation adds to the FiLM of each block, (B, C) each."""

    films: tuple[Tensor, ...]


class PublishedUnet(Network):
    """U-Net of `channels` per resolution. `indices` is the number of noise indices it was trained with."""

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
        super().__init__()
        self.width, self.channels, self.step_width = width, tuple(channels), step_width
        self.register_buffer("levels", ddpm_levels(indices), persistent=False)
        condition = step_width + tokens * token_width
        embedding = (
            nn.Identity(),
            nn.Linear(step_width, 4 * step_width),
            nn.Mish(),
            nn.Linear(4 * step_width, step_width),
        )
        self.diffusion_step_encoder = nn.Sequential(*embedding)

        def stage(inputs: int, outputs: int, resize: nn.Module) -> nn.ModuleList:
            first, second = (
                PublishedBlock(i, outputs, condition, kernel, groups, scaled)
                for i in (inputs, outputs)
            )
            return nn.ModuleList((first, second, resize))

        ins, last = (width, *self.channels[:-1]), self.channels[-1]
        shrink = [nn.Conv1d(c, c, 3, 2, 1) for c in self.channels[:-1]] + [nn.Identity()]
        self.down_modules = nn.ModuleList(
            stage(i, o, r) for i, o, r in zip(ins, self.channels, shrink, strict=True)
        )
        self.mid_modules = nn.ModuleList(list(stage(last, last, nn.Identity()))[:2])
        pairs = list(zip(self.channels[:-1], self.channels[1:], strict=True))[::-1]
        self.up_modules = nn.ModuleList(
            stage(2 * b, a, nn.ConvTranspose1d(a, a, 4, 2, 1)) for a, b in pairs
        )
        finest = self.channels[0]
        self.final_conv = nn.Sequential(
            _convolution(finest, finest, kernel, 8), nn.Conv1d(finest, width, 1)
        )

    def _blocks(self) -> list[PublishedBlock]:
        """Every block in the order of the forward pass."""
        stages = [*self.down_modules, self.mid_modules, *self.up_modules]
        return [block for stage in stages for block in stage if isinstance(block, PublishedBlock)]  # type: ignore[union-attr]

    def encode_context(self, tokens: Tensor) -> PublishedContext:
        """The observation's share of every FiLM, from tokens (B, K, E)."""
        activated = mish(tokens.flatten(1))
        return PublishedContext(
            tuple(block.share(activated, self.step_width) for block in self._blocks())
        )

    def index(self, level: Tensor) -> Tensor:
        """Noise index of levels (any shape), between whole numbers too: its embedding is smooth."""
        table, wanted = self.levels, level.to(self.levels.dtype)
        above = torch.searchsorted(table, wanted.contiguous()).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        index = (above - 1 + (wanted - low) / (high - low)).clamp(0, len(table) - 1)
        whole = index.round()
        return torch.where((index - whole).abs() < SNAP, whole, index).float()

    def modulation(self, level: Tensor) -> tuple[Tensor, ...]:
        """The noise index's share of every FiLM, bias included, for levels (B, T) that are the same along T."""
        if bool((level != level[:, :1]).any()):
            raise ConfigError(
                "this network was trained with one noise level for a whole plan: it can be sampled fresh, warm-started (rti), "
                "or guided (rtc), but not streamed"
            )
        half = self.step_width // 2
        frequencies = torch.exp(
            torch.arange(half, device=level.device) * (-math.log(10000.0) / (half - 1))
        )
        angle = self.index(level[:, 0]).unsqueeze(-1) * frequencies  # (B, E / 2)
        embedded = mish(self.diffusion_step_encoder(torch.cat((angle.sin(), angle.cos()), -1)))
        return tuple(block.share(embedded, 0) + block.bias for block in self._blocks())

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
            steps = self.modulation(level)
        else:
            steps = prepared
        films = iter([a + b for a, b in zip(steps, context.films, strict=True)])
        h, skips = x.transpose(1, 2), []
        for first, second, shrink in self.down_modules:  # type: ignore[misc]
            h = second(first(h, next(films)), next(films))
            skips.append(h)
            h = shrink(h)
        for block in self.mid_modules:
            h = block(h, next(films))
        for first, second, grow in self.up_modules:  # type: ignore[misc]
            h = grow(second(first(torch.cat((h, skips.pop()), 1), next(films)), next(films)))
        return self.final_conv[1](self.final_conv[0]["block"](h)).transpose(1, 2)  # type: ignore[index]

    def check_steps(self, steps: int) -> None:
        """Every resolution but the coarsest is halved."""
        factor = 2 ** (len(self.channels) - 1)
        if steps % factor:
            raise ConfigError(
                f"the plan has {steps} steps; this U-Net needs a multiple of {factor}"
            )
