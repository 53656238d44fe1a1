"""The contract of denoiser networks, tables of prepared levels, and layers that networks share.

context = network.encode_context(tokens)         once per observation
table   = network.prepare(levels, horizon)       once per grid of levels
out     = network(x, level, context, prepared)   every evaluation

`prepared` is `table.at(step)`, or None: then the network works it out from `level`.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from ...spec import ConfigError

Context = TypeVar("Context")
"""What a network keeps of the condition tokens."""
Modulation = TypeVar("Modulation")
"""What a network keeps of noise levels."""
M = TypeVar("M", bound=nn.Module)
_SERIALS = itertools.count(1)
"""Numbers of this process's networks. An address would not do: Python gives it away again."""


@dataclass(frozen=True)
class LevelTable(Generic[Modulation]):
    """All that a network needs of a grid of S levels; tied to the weights it was made with.

    Its tensors are constants: no gradient passes through them to the weights.
    """

    levels: Tensor  # (S,) or (S, T)
    version: tuple[int, int]
    entries: tuple[Modulation, ...]  # one per step: what `forward` takes as `prepared`
    network: int  # serial number of the network that made it
    horizon: int  # T

    def fits(self, network: Network, horizon: int) -> bool:
        """Whether `network` made it for plans of `horizon` steps, with the weights it has now."""
        made_for = (self.network, self.version, self.horizon)
        return made_for == (network.serial, network.weights_version, horizon)

    def at(self, step: int) -> Modulation:
        """The prepared entry of one step."""
        return self.entries[step]


@dataclass(frozen=True)
class Health:
    """Numbers that a network logs in training, and a warning that names the remedy, or None."""

    numbers: dict[str, float]
    warning: str | None


class Network(nn.Module, ABC, Generic[Context, Modulation]):
    """A denoiser network F: noisy actions, a noise level per action step, context -> actions."""

    width: int
    """A."""
    serial: int
    """The network's number: no other one of the process ever has it, and a copy gets its own."""

    def __init__(self) -> None:
        super().__init__()
        self.serial = next(_SERIALS)
        self._replaced = 0  # how often other tensors may have been put in place of the weights

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.serial = next(_SERIALS)  # copied, or unpickled

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        applied = super()._apply(fn, recurse)  # moved to another device or type
        self._replaced += 1
        return applied

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._replaced += 1

    @abstractmethod
    def encode_context(self, tokens: Tensor) -> Context:
        """What the network needs of the condition tokens (B, K, E)."""

    @abstractmethod
    def modulation(self, level: Tensor) -> Modulation:
        """What the network needs of the levels (1, T), the same for all rows."""

    @abstractmethod
    def forward(
        self, x: Tensor, level: Tensor, context: Context, prepared: Modulation | None = None
    ) -> Tensor:
        """F(x (B, T, A), level (B, T), context) -> (B, T, A).

        `prepared`, an entry of a LevelTable, stands in for whatever depends on `level` alone.
        """

    def set_precision(self, dtype: torch.dtype) -> Self:
        """Hold and multiply the weights in `dtype`; raises ConfigError where the network cannot."""
        if dtype != torch.float32:
            raise ConfigError(
                f"{type(self).__name__} runs in float32 only, not in {dtype}; denoiser=mode runs "
                "in both"
            )
        return self

    @property
    def active_count(self) -> int:
        """Number of weights that work on one token: all, unless the network routes tokens."""
        return sum(p.numel() for p in self.parameters())

    def decayed_parameters(self) -> list[nn.Parameter]:
        """Parameters with weight decay: the matrices of linear layers and convolutions."""
        return layer_weights(self)

    def losses(self, level: Tensor) -> dict[str, Tensor]:
        """The network's own auxiliary losses at training levels (B, T), weighted, by name."""
        return {}

    def health(self) -> Health:
        """What the network reports of itself in training."""
        return Health({}, None)

    @property
    def weights_version(self) -> tuple[int, int]:
        """Changes with every write to a weight (optimiser, EMA, load_state_dict) and every move.

        Fused optimisers write without a trace: call `note_written` after their step.
        """
        return self._replaced, sum(p._version for p in self.parameters())

    def note_written(self) -> None:
        """Change `weights_version` after a write that torch does not count."""
        for weight in self.parameters():
            torch.autograd.graph.increment_version(weight)

    @torch.no_grad()
    def prepare(self, levels: Tensor, horizon: int) -> LevelTable[Modulation]:
        """Table of every step's modulation: levels (S,), the same for all action steps, or (S, T).

        Always made without gradients, under autograd too: what it holds are constants. Sampling
        with it leaves the level embedding, and all else that reads levels only, without a gradient.
        Whoever differentiates with respect to weights passes no table; gradients with respect to
        the plan or the context (guidance) are right with one.
        """
        rows = levels
        if levels.dim() == 1:
            rows = levels.unsqueeze(1).expand(-1, horizon)  # (S, T)
        entries = tuple(self.modulation(row.unsqueeze(0)) for row in rows)
        return LevelTable(levels, self.weights_version, entries, self.serial, horizon)

    def check_steps(self, steps: int) -> None:
        """Raise ConfigError for plans of a length T that the network cannot take."""

    def check_table(self, table: LevelTable) -> None:
        """Raise ConfigError if another network made the table, or the weights have changed since.

        It does not look at autograd: see `prepare` for which gradients a table leaves out.
        """
        if table.network != self.serial:
            raise ConfigError(
                "these levels were prepared by another network: call prepare() of this one"
            )
        if table.version != self.weights_version:
            raise ConfigError(
                "the weights have changed since these levels were prepared: call prepare() again"
            )


class ModuleSequence(nn.ModuleList, Generic[M]):
    """`nn.ModuleList` that tells type checkers which modules it holds; nothing else differs."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[M]: ...


def is_traced() -> bool:
    """Whether a graph is being made: no shape and no branch may then depend on values."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def layer_weights(module: nn.Module) -> list[nn.Parameter]:
    """Weights of all linear and convolution layers: no biases, norms, positions or other tables."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)
    weights: list[nn.Parameter] = []
    for each in module.modules():
        if isinstance(each, layers):
            weights.append(each.get_parameter("weight"))
    return weights


def check_heads(embed: int, heads: int) -> None:
    """Raise ConfigError unless `embed` splits into `heads`, and into sines and cosines."""
    if embed % heads or embed % 2 or embed < 4:
        raise ConfigError(
            f"denoiser.embed ({embed}) must be even, at least 4 and divisible by denoiser.heads "
            f"({heads})"
        )


def check_positions(steps: int, most: int) -> None:
    """Raise ConfigError for plans of more steps than a transformer has positions for."""
    if steps > most:
        raise ConfigError(
            f"horizon.planned is {steps}, but denoiser.steps allows {most}: give "
            f"denoiser.steps={steps}"
        )


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, E) -> (B, heads, T, E / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, heads, T, E / heads) -> (B, T, E)."""
    return x.transpose(1, 2).flatten(2)


def sinusoids(steps: int, embed: int, longest: float = 100.0) -> Tensor:
    """Positions 0 .. steps - 1 as sines and cosines (1706.03762, section 3.5), (steps, E).

    Their periods reach from 2 pi to 2 pi `longest` steps.
    """
    rates = torch.exp(-math.log(longest) * torch.arange(embed // 2) / (embed // 2 - 1))
    angles = torch.arange(steps).unsqueeze(1) * rates
    return torch.cat((angles.sin(), angles.cos()), -1)


class LevelEmbedding(nn.Module):
    """Sines and cosines of the level, then a network of one hidden layer: (B, T) -> (B, T, E)."""

    frequencies: Tensor

    def __init__(self, width: int, out: int, scale: float = 1000.0) -> None:
        super().__init__()
        half = width // 2
        frequencies = torch.exp(-math.log(10000.0) * torch.arange(half) / (half - 1)) * scale
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * half, 4 * width), nn.Mish(), nn.Linear(4 * width, out)
        )

    def forward(self, level: Tensor) -> Tensor:
        """Embed levels of any shape; a trailing axis E is added."""
        angle = level.unsqueeze(-1) * self.frequencies
        return self.layers(torch.cat((angle.sin(), angle.cos()), -1))
