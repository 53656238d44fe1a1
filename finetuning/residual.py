"""A residual policy: a small network corrects the chunks of a frozen base (ResFiT, 2509.19301).

Off-policy, by TD3 (1802.09477) over chunks: two critics on condition tokens, the base's chunk and
its correction, with layer norm; n-step returns; target networks and noise on the target's
correction; the residual learns later than the critics.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..policy.model import PolicyModel
from ..policy.residual import Residual, make_layers
from ..policy.samplers.base import Sampler
from ..seeds import Purpose, torch_seed
from ..spec import ConfigError, IntArray, option
from .recording import RecordingPolicy
from .replay import Chunks, link_chunks
from .rollouts import Collector
from .tuner import MethodSettings, Setup, Tuner

TARGET_NOISE = 0.2
TARGET_CLIP = 0.5
"""Noise on the target's correction, and its limit, in shares of the scale (TD3's values)."""


@dataclass(frozen=True)
class ResidualSettings(MethodSettings):
    """A small network that corrects the chunks of the frozen base (ResFiT, 2509.19301)."""

    scale: float = option(0.1, "largest correction of a number", "normalised units")
    noise: float = option(0.3, "noise on corrections in a rollout, as a share of the scale")
    hidden: int = option(256, "width of the residual and of its critics")
    rate: float = option(3e-4, "learning rate")
    batch: int = option(256, "chunks in an optimiser step")
    update_ratio: float = option(1.0, "optimiser steps for each chunk of a rollout")
    penalty: float = option(
        0.01, "weight of the mean square of corrections, as shares of the scale, beside the value"
    )
    warm_up: int = option(1, "iterations in which the critics alone learn")
    delay: int = option(2, "optimiser steps of the critics for each one of the residual")
    discount: float = option(0.99, "discount of rewards per chunk")
    steps: int = option(3, "chunks whose rewards a return adds up; a value stands for the rest")
    follow: float = option(0.005, "share by which target networks follow in an optimiser step")
    capacity: int = option(200_000, "chunks that are kept; the oldest are dropped")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, ("hidden", "batch", "delay", "steps", "capacity"))
        self.check_least(0, ("noise", "penalty", "warm_up"))
        self.check_positive(("scale", "rate", "update_ratio"))
        self.check_shares(("discount", "follow"))

    def make_tuner(self, setup: Setup) -> Tuner[Any]:
        """A `ResidualTuner`."""
        return ResidualTuner(self, setup)


class ChunkCritics(nn.Module):
    """Two Q(tokens (P, F), base (P, C), correction (P, C)), each (P,)."""

    def __init__(self, inputs: int, hidden: int, scale: float) -> None:
        """`inputs` is F + 2 C; corrections are divided by their `scale`."""
        super().__init__()
        self.scale = scale
        self.one = nn.Sequential(*make_layers(inputs, hidden), nn.Linear(hidden, 1))
        self.other = nn.Sequential(*make_layers(inputs, hidden), nn.Linear(hidden, 1))

    def forward(self, tokens: Tensor, base: Tensor, correction: Tensor) -> tuple[Tensor, Tensor]:
        """What both critics say."""
        features = torch.cat((tokens, base, correction / self.scale), 1)
        return self.one(features).squeeze(1), self.other(features).squeeze(1)


class ResidualTuner(Tuner[ResidualSettings]):
    """A frozen base with a residual, two critics, their targets, and the chunks so far."""

    def __init__(self, settings: ResidualSettings, setup: Setup) -> None:
        """Put a residual behind `setup.base`; any sampler will do."""
        super().__init__(settings, setup)
        torch.manual_seed(torch_seed(settings.seed, Purpose.FINETUNING))
        self.model = add_residual(setup.base, settings, setup.executed)
        assert self.model.residual is not None
        self.residual = self.model.residual.requires_grad_(True)
        encoder = self.model.encoder
        inputs = encoder.tokens * encoder.token_width + 2 * math.prod(self.residual.shape)
        self.critics = ChunkCritics(inputs, settings.hidden, settings.scale)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.target_residual = copy.deepcopy(self.residual).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.residual.parameters(), settings.rate, weight_decay=0.0
        )
        self.critic_optimizer = torch.optim.AdamW(
            self.critics.parameters(), settings.rate, weight_decay=0.0
        )
        self.chunks: Chunks | None = None

    def advance_round(self) -> dict[str, float]:
        """One rollout, and `update_ratio` optimiser steps for each of its chunks."""
        settings = self.settings
        generator = self.make_generator()
        policy = ExploringPolicy(
            self.model, self.sampler, self.executed, settings.noise * settings.scale, generator
        )
        rollout = Collector(policy, self.source).collect(
            settings.chunks, self.draw_seeds(settings.chunks)
        )
        self.count_training(int(rollout.periods.sum()))
        recorded = policy.join(*rollout.done.shape)
        self._remember(link_chunks(recorded, rollout, settings.discount, settings.steps))
        updates = max(1, round(settings.update_ratio * rollout.done.size))
        return {**rollout.describe(), **self._learn(updates, generator)}

    def parts(self) -> dict[str, nn.Module]:
        """Critics and target networks."""
        return {
            "critics": self.critics,
            "target_critics": self.target_critics,
            "target_residual": self.target_residual,
        }

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Those of residual and critics."""
        return {"optimizer": self.optimizer, "critic_optimizer": self.critic_optimizer}

    def tensors(self) -> dict[str, Tensor]:
        """The chunks so far."""
        if self.chunks is None:
            return {}
        return self.chunks.tensors()

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back the chunks."""
        if tensors:
            self.chunks = Chunks(**tensors)

    def _remember(self, chunks: Chunks) -> None:
        """Put chunks into the buffer, in the place of the oldest where it is full."""
        if self.chunks is not None:
            chunks = self.chunks.join(chunks)
        self.chunks = chunks.take(slice(max(0, len(chunks) - self.settings.capacity), None))

    def _learn(self, updates: int, generator: torch.Generator) -> dict[str, float]:
        """`updates` optimiser steps of the critics, and of the residual where it is its turn."""
        settings, chunks = self.settings, self.chunks
        if chunks is None or len(chunks) == 0:
            return {}
        numbers: dict[str, float] = {}
        for place in range(updates):
            index = torch.randint(len(chunks), (settings.batch,), generator=generator)
            batch = chunks.take(index)
            numbers["critic_loss"] = self._update_critics(batch, generator)
            if self.iteration >= settings.warm_up and place % settings.delay == 0:
                numbers["value"] = self._update_residual(batch)
                follow(self.target_residual, self.residual, settings.follow)
            follow(self.target_critics, self.critics, settings.follow)
        with torch.no_grad():
            newest = chunks.take(slice(-settings.batch, None))
            numbers["correction"] = float(self._correct(self.residual, newest).abs().mean())
        return numbers

    def _update_critics(self, batch: Chunks, generator: torch.Generator) -> float:
        """Regress both critics onto what the target networks expect; the loss."""
        target = self.compute_target(batch, generator)
        one, other = self.critics(batch.tokens, batch.base, batch.correction)
        loss = (one - target).square().mean() + (other - target).square().mean()
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def compute_target(self, batch: Chunks, generator: torch.Generator) -> Tensor:
        """Returns (P,): the lesser of both target critics, at a noisy correction of the target."""
        scale = self.settings.scale
        correction = self._correct(self.target_residual, batch, ahead=True)
        noise = TARGET_NOISE * torch.randn(correction.shape, generator=generator)
        noisy = correction + scale * noise.clamp(-TARGET_CLIP, TARGET_CLIP)
        values = self.target_critics(batch.next_tokens, batch.next_base, noisy.clamp(-scale, scale))
        return batch.reward + batch.discount * torch.minimum(*values)

    def _update_residual(self, batch: Chunks) -> float:
        """Raise what the first critic says of the corrections, less their size; the mean value."""
        self.critics.requires_grad_(False)
        correction = self._correct(self.residual, batch)
        value = self.critics(batch.tokens, batch.base, correction)[0].mean()
        size = (correction / self.settings.scale).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        (self.settings.penalty * size - value).backward()
        self.optimizer.step()
        self.critics.requires_grad_(True)
        return float(value.detach())

    def _correct(self, residual: Residual, batch: Chunks, ahead: bool = False) -> Tensor:
        """Corrections (P, C) of a batch, or of what it led to."""
        tokens, base = batch.tokens, batch.base
        if ahead:
            tokens, base = batch.next_tokens, batch.next_base
        return residual(tokens, base.unflatten(1, residual.shape)).flatten(1)


class ExploringPolicy(RecordingPolicy):
    """The policy with noise on its corrections; it records what it planned for which row."""

    def __init__(
        self,
        model: PolicyModel,
        sampler: Sampler,
        executed: int | None,
        std: float,
        generator: torch.Generator,
    ) -> None:
        """`std` is that of the noise [normalised units]."""
        super().__init__(model, sampler, executed)
        self.std, self.generator = std, generator

    def correct_plan(self, rows: IntArray, plan: Tensor, tokens: Tensor) -> Tensor:
        """The normalised plan (R, T, A') with a noisy correction of its chunk."""
        residual = self.model.residual
        assert residual is not None
        base = plan[:, residual.chunk]
        noise = self.std * torch.randn(base.shape, generator=self.generator)
        correction = (residual(tokens, base) + noise).clamp(-residual.scale, residual.scale)
        self.record(rows, tokens=tokens, base=base, correction=correction)
        return residual.add(plan, correction)


def add_residual(
    base: PolicyModel, settings: ResidualSettings, executed: int | None
) -> PolicyModel:
    """A copy of the base with a residual over the chunk that is executed; it begins as 0.

    A model that has one goes on with it. Raises ConfigError where that has another scale.
    """
    model = copy.deepcopy(base)
    if model.residual is None:
        horizon = model.config.horizon
        model.add_residual(
            {
                "first": horizon.past,
                "steps": executed or horizon.executed,
                "scale": settings.scale,
                "hidden": settings.hidden,
            }
        )
    elif model.residual.scale != settings.scale:
        raise ConfigError(
            f"the checkpoint has a residual of scale {model.residual.scale}, not "
            f"{settings.scale}: give method.scale={model.residual.scale}"
        )
    return model.eval().requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, network: nn.Module, share: float) -> None:
    """Move the target's weights towards the network's."""
    for slow, fast in zip(target.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, share)
