"""Two copies of one network, by noise level: what is fine-tuned, and the base that stays.

Policy gradients over the last denoising steps (DPPO, 2409.00588, section 4.3) change the weights of
those steps alone. The steps before them keep the base's weights, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...spec import ConfigError
from ..registry import build
from .base import Health, Network

TARGET = f"{__name__}.SplitNetwork"


class SplitContext(NamedTuple):
    """What both networks keep of the condition tokens."""

    base: Any
    tuned: Any


class SplitModulation(NamedTuple):
    """What both networks keep of one step's levels; None where no action step needs the network."""

    base: Any
    tuned: Any


class SplitNetwork(Network[SplitContext, SplitModulation]):
    """`tuned` denoises action steps at levels up to `below`, `base` those above it."""

    def __init__(
        self,
        width: int,
        tokens: int,
        token_width: int,
        network: Mapping[str, Any] | None = None,
        below: float = 1.0,
    ) -> None:
        """Build both networks.

        network: the options of either network, its `_target_` included
        below: noise level up to which the tuned network works, in [0, 1]
        """
        super().__init__()
        if network is None or not 0 <= below <= 1:
            raise ConfigError(
                f"a split network wants denoiser.network and a level denoiser.below in [0, 1]; "
                f"it has {below}"
            )
        if network.get("_target_") == TARGET:
            raise ConfigError("a split network cannot hold another one")
        sizes = {"width": width, "tokens": tokens, "token_width": token_width}
        self.width = width
        self.below = below
        self.base: Network[Any, Any] = build("denoiser", network, **sizes)
        self.tuned: Network[Any, Any] = build("denoiser", network, **sizes)

    def encode_context(self, tokens: Tensor) -> SplitContext:
        """What both networks need of the condition tokens (B, K, E)."""
        return SplitContext(self.base.encode_context(tokens), self.tuned.encode_context(tokens))

    def modulation(self, level: Tensor) -> SplitModulation:
        """What both networks need of the levels (1, T); a network without work is left out.

        Reads the levels on the host, so it is called outside of a compiled loop.
        """
        tuned = level <= self.below
        base_entry = None
        tuned_entry = None
        if not bool(tuned.all()):
            base_entry = self.base.modulation(level)
        if bool(tuned.any()):
            tuned_entry = self.tuned.modulation(level)
        return SplitModulation(base_entry, tuned_entry)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        context: SplitContext,
        prepared: SplitModulation | None = None,
    ) -> Tensor:
        """F(x (B, T, A), level (B, T), context) -> (B, T, A), each action step by its network."""
        if prepared is None:
            base = self.base(x, level, context.base)
            tuned = self.tuned(x, level, context.tuned)
        elif prepared.base is None:
            return self.tuned(x, level, context.tuned, prepared.tuned)
        elif prepared.tuned is None:
            return self.base(x, level, context.base, prepared.base)
        else:
            base = self.base(x, level, context.base, prepared.base)
            tuned = self.tuned(x, level, context.tuned, prepared.tuned)
        return torch.where((level <= self.below).unsqueeze(-1), tuned, base)

    def set_precision(self, dtype: torch.dtype) -> SplitNetwork:
        """Hold the weights of both networks in `dtype`."""
        self.base.set_precision(dtype)
        self.tuned.set_precision(dtype)
        return self

    @property
    def active_count(self) -> int:
        """Weights at work on one token: those of one network."""
        return self.tuned.active_count

    def decayed_parameters(self) -> list[nn.Parameter]:
        """Those of the network that is trained."""
        return self.tuned.decayed_parameters()

    def losses(self, level: Tensor) -> dict[str, Tensor]:
        """The tuned network's own losses at levels (B, T)."""
        return self.tuned.losses(level)

    def health(self) -> Health:
        """What the tuned network reports of itself."""
        return self.tuned.health()

    def check_steps(self, steps: int) -> None:
        """Raise ConfigError for plans of a length T that the networks cannot take."""
        self.tuned.check_steps(steps)
