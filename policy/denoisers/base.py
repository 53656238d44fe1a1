"""What every denoiser network has in common: the network contract, level embeddings, tables of prepared levels.

context = network.encode_context(tokens)         once per observation
table   = network.prepare(levels)                once per grid of levels
out     = network(x, level, context, prepared)   every evaluation; `prepared` is `table.at(step)` or None
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from ...spec import ConfigError

M = TypeVar("M", bound=nn.Module)
_SERIALS = itertools.count(1)
"""Numbers of this process's networks. An address would not do: a new network may get that of one that is gone."""


def take_rows(context: Any, rows: Tensor) -> Any:
    """The context of `rows` (R,) alone: every tensor of it has the row as its first axis."""
    if isinstance(context, Tensor):
        return context[rows]
    if isinstance(context, tuple):
        return tuple(take_rows(part, rows) for part in context)
    if is_dataclass(context) and not isinstance(context, type):
        return replace(
            context, **{f.name: take_rows(getattr(context, f.name), rows) for f in fields(context)}
        )
    return context


@dataclass(frozen=True)
class LevelTable:
    """Everything of a network that depends on levels alone, for a grid of S steps; tied to the weights it was made with."""

    levels: Tensor  # (S,) or (S, T)
    version: tuple[int, int]
    entries: tuple[Any, ...]  # one per step: what `forward` takes as `prepared`
    network: int  # serial number of the network that made it
    horizon: int  # T

    def fits(self, network: Network, horizon: int) -> bool:
        """Whether the network made it, for plans of that length, and has the same weights still."""
        return (self.network, self.version, self.horizon) == (
            network.serial,
            network.weights_version,
            horizon,
        )

    def at(self, step: int) -> Any:
        """The prepared entry of one step."""
        return self.entries[step]


@dataclass(frozen=True)
class Health:
    """Numbers to log of a network in training, and what is wrong with it, if anything, with the mend."""

    numbers: dict[str, float]
    warning: str | None


class Network(nn.Module, ABC):
    """A denoiser network F: reads noisy actions, a level per action step and a context, writes one number per action."""

    width: int
    """A."""
    serial: int
    """The network's number: no other one of the process ever has it, and a copy gets its own."""

    def __init__(self) -> None:
        super().__init__()
        self.serial = next(_SERIALS)
        self._replaced = 0  # times that tensors may have been put in place of the weights

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.serial = next(_SERIALS)  # copied, or read back

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        applied = super()._apply(fn, recurse)  # moved to another device or type
        self._replaced += 1
        return applied

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._replaced += 1

    @abstractmethod
    def encode_context(self, tokens: Tensor) -> Any:
        """Whatever the network needs of the condition tokens (B, K, E), worked out once per observation."""

    @abstractmethod
    def modulation(self, level: Tensor) -> Any:
        """Whatever the network needs of the levels (B, T), or (1, T) for all rows."""

    @abstractmethod
    def forward(self, x: Tensor, level: Tensor, context: Any, prepared: Any = None) -> Tensor:
        """F(x (B, T, A), level (B, T), context) -> (B, T, A); `prepared` stands in for the levels' modulation."""

    def set_precision(self, dtype: torch.dtype) -> Self:
        """Hold and multiply the weights in `dtype` from now on; raises ConfigError where a network has no such form."""
        if dtype != torch.float32:
            raise ConfigError(
                f"{type(self).__name__} runs in float32 only, not in {dtype}; denoiser=mode runs in both"
            )
        return self

    @property
    def active_count(self) -> int:
        """Weights that work on one token: all of them, unless tokens are led past some."""
        return sum(p.numel() for p in self.parameters())

    def decayed_parameters(self) -> list[nn.Parameter]:
        """Parameters that weight decay applies to: the matrices of linear and convolution layers."""
        return layer_weights(self)

    def losses(self, level: Tensor) -> dict[str, Tensor]:
        """Weighted auxiliary losses of the network itself at training levels (B, T), by name; none unless it has some."""
        return {}

    def health(self) -> Health:
        """What the network says of itself while it is trained."""
        return Health({}, None)

    @property
    def weights_version(self) -> tuple[int, int]:
        """Changes whenever a weight is written to (optimiser step, EMA swap, load_state_dict) or the network is moved.

        Fused optimisers write without a trace: call `note_written` after their step.
        """
        return self._replaced, sum(p._version for p in self.parameters())

    def note_written(self) -> None:
        """Change `weights_version` after a write that torch does not count."""
        for weight in self.parameters():
            torch.autograd.graph.increment_version(weight)

    @torch.no_grad()
    def prepare(self, levels: Tensor, horizon: int) -> LevelTable:
        """Table of the modulations of every step of a grid: levels (S,) constant along T, or (S, T)."""
        if levels.dim() == 2:
            rows = levels  # (S, T)
        else:
            rows = levels.unsqueeze(1).expand(-1, horizon)
        entries = tuple(self.modulation(row.unsqueeze(0)) for row in rows)
        return LevelTable(levels, self.weights_version, entries, self.serial, horizon)

    def check_steps(self, steps: int) -> None:
        """Raise ConfigError for plans of a length that the network cannot take; any will do unless it says otherwise."""

    def check_table(self, table: LevelTable) -> None:
        """Raise ConfigError when the table was prepared by another network, or the weights have changed since."""
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


def layer_weights(module: nn.Module) -> list[nn.Parameter]:
    """Weights of all linear and convolution layers: no biases, norms, positions or other tables."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)
    return [each.weight for each in module.modules() if isinstance(each, layers)]


def heads_apart(x: Tensor, heads: int) -> Tensor:
    """(B, T, E) -> (B, heads, T, E / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def heads_joined(x: Tensor) -> Tensor:
    """(B, heads, T, E / heads) -> (B, T, E)."""
    return x.transpose(1, 2).flatten(2)


def sinusoids(steps: int, embed: int, longest: float = 100.0) -> Tensor:
    """Positions 0 .. steps - 1 as sines and cosines, (steps, E), with periods from 2 pi to 2 pi `longest`."""
    rates = torch.exp(-math.log(longest) * torch.arange(embed // 2) / (embed // 2 - 1))
    angles = torch.arange(steps).unsqueeze(1) * rates
    return torch.cat((angles.sin(), angles.cos()), -1)


class LevelEmbedding(nn.Module):
    """Sinusoid of the level, then a small network: (B, T) -> (B, T, E)."""

    frequencies: Tensor

    def __init__(self, width: int, out: int, scale: float = 1000.0) -> None:
        super().__init__()
        half = width // 2
        self.register_buffer(
            "frequencies",
            torch.exp(-math.log(10000.0) * torch.arange(half) / (half - 1)) * scale,
            False,
        )
        self.layers = nn.Sequential(
            nn.Linear(2 * half, 4 * width), nn.Mish(), nn.Linear(4 * width, out)
        )

    def forward(self, level: Tensor) -> Tensor:
        """Embed levels of any shape; a trailing axis is added."""
        angle = level.unsqueeze(-1) * self.frequencies
        return self.layers(torch.cat((angle.sin(), angle.cos()), -1))
