"""Values of chunks for a search at inference: what return follows a chunk of the frozen policy.

The policy acts as it is deployed, so that what was seen in earlier rounds stays true. A chunk's
target is its lambda-return: discounted rewards, and a critic's value of the final observation where
a time limit or the end of the rollout cut the episode off. Each member of the ensemble counts every
episode as often as a Poisson draw of its own says (bootstrap, 1602.04621).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..policy.model import PolicyModel
from ..policy.samplers.base import Sampler
from ..policy.samplers.fresh import Fresh
from ..seeds import Purpose, torch_seed
from ..spec import BoolArray, ConfigError, IntArray, option
from .critic import Critic, count_features
from .ppo import Experience, take_step, update_critic, weigh_rollout
from .recording import RecordingPolicy
from .rollouts import Collector, Rollout
from .settings import CriticSettings
from .tuner import Setup, Tuner


@dataclass(frozen=True)
class ValuesSettings(CriticSettings):
    """What a chunk is worth, for a search at inference; the policy stays as it is."""

    iterations: int = option(20, "rollouts, each followed by an update")
    search: str = option(
        "best_of", "sampler that ranks by the values in the comparison: best_of or search"
    )
    noise: float = option(0.0, "noise on the chunks of a rollout", "normalised units")
    members: int = option(5, "networks of the ensemble")
    hidden: int = option(128, "width of each network")
    rate: float = option(1e-3, "learning rate of the values")
    updates: int = option(200, "optimiser steps after each rollout, on all chunks so far")
    batch: int = option(256, "chunks in an optimiser step")
    epochs: int = option(4, "passes of the critic over a rollout")
    capacity: int = option(200_000, "chunks that are kept; the oldest are dropped")

    clip_norm = 1.0  # of all gradients

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, ("members", "hidden", "updates", "batch", "epochs", "capacity"))
        self.check_least(0, ("noise",))
        self.check_positive(("rate",))

    def make_tuner(self, setup: Setup) -> Tuner[Any]:
        """A `ValuesTuner`."""
        return ValuesTuner(self, setup)


class ValuesTuner(Tuner[ValuesSettings]):
    """A frozen policy, values of its chunks, the critic of its observations, the chunks so far."""

    def __init__(self, settings: ValuesSettings, setup: Setup) -> None:
        """Add values to `setup.base`; raises ConfigError for a sampler without fresh plans."""
        super().__init__(settings, setup)
        check_sampler(setup.sampler)
        torch.manual_seed(torch_seed(settings.seed, Purpose.FINETUNING))
        self.model = add_values(setup.base, settings, setup.executed)
        assert self.model.values is not None
        self.values = self.model.values.requires_grad_(True)
        features = count_features(self.model, self.sampler, self.executed)
        self.critic = Critic(features, settings.critic_hidden)
        self.optimizer = torch.optim.AdamW(self.values.parameters(), settings.rate)
        self.critic_optimizer = torch.optim.AdamW(
            self.critic.parameters(), settings.critic_rate, weight_decay=0.0
        )
        self.chunks: dict[str, Tensor] = {}
        """tokens (P, F), chunk (P, C), target (P,) and weight (P, M) of the chunks so far."""

    def advance_round(self) -> dict[str, float]:
        """One rollout, one update of the critic, and `updates` optimiser steps of the values."""
        settings = self.settings
        generator = self.make_generator()
        policy = NoisyPolicy(self.model, self.sampler, self.executed, settings.noise, generator)
        rollout = Collector(policy, self.source, self.critic).collect(
            settings.chunks, self.draw_seeds(settings.chunks)
        )
        self.count_training(int(rollout.periods.sum()))
        experience = weigh_rollout(rollout, settings)
        numbers = rollout.describe()
        if self.iteration >= settings.warm_up:
            new = self._read_chunks(policy, rollout, experience, generator)
            numbers["agreement"] = self._compare(new, experience)
            self._remember(new)
            numbers["value_loss"] = self._learn(generator)
        numbers["critic_loss"] = update_critic(
            self.critic, self.critic_optimizer, experience, settings, generator
        )
        return numbers

    def parts(self) -> dict[str, nn.Module]:
        """The critic; the values are part of the model."""
        return {"critic": self.critic}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Those of values and critic."""
        return {"optimizer": self.optimizer, "critic_optimizer": self.critic_optimizer}

    def tensors(self) -> dict[str, Tensor]:
        """The chunks so far."""
        return self.chunks

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back the chunks."""
        self.chunks = dict(tensors)

    def _read_chunks(
        self,
        policy: RecordingPolicy,
        rollout: Rollout,
        experience: Experience,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """What the rollout says of its chunks that were executed."""
        weight = weigh_episodes(rollout.done, self.values.members, generator)
        found = {**policy.join(*rollout.done.shape), "weight": weight}
        chunks = {name: values.flatten(0, 1) for name, values in found.items()}
        chunks["target"] = experience.returns
        return {name: values[experience.usable] for name, values in chunks.items()}

    @torch.no_grad()
    def _compare(self, new: Mapping[str, Tensor], experience: Experience) -> float:
        """Correlation of what the values say of new chunks with what came of them.

        Both less the critic's value of the observation: it is about which chunk is the better one.
        """
        said = self.values(new["tokens"], new["chunk"]).amin(1)
        advantage = experience.advantage[experience.usable]
        pair = torch.stack((said - (new["target"] - advantage), advantage))
        return float(torch.corrcoef(pair)[0, 1].nan_to_num())

    def _remember(self, new: Mapping[str, Tensor]) -> None:
        """Keep chunks, in the place of the oldest where there are too many."""
        if not self.chunks:
            self.values.fit_scale(new["target"])
        for name, values in new.items():
            if name in self.chunks:
                values = torch.cat((self.chunks[name], values))
            self.chunks[name] = values[-self.settings.capacity :]

    def _learn(self, generator: torch.Generator) -> float:
        """Regress every member onto the targets of the chunks that count for it; the mean loss."""
        settings = self.settings
        losses: list[Tensor] = []
        count = len(self.chunks["target"])
        for _ in range(settings.updates):
            index = torch.randint(count, (settings.batch,), generator=generator)
            batch = {name: values[index] for name, values in self.chunks.items()}
            said = self.values(batch["tokens"], batch["chunk"])
            error = ((said - batch["target"].unsqueeze(1)) / self.values.scale).square()
            loss = (batch["weight"] * error).mean()
            take_step(loss, self.values, self.optimizer, settings.clip_norm)
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())


class NoisyPolicy(RecordingPolicy):
    """The policy with noise on what it executes; it records what it executed for which row."""

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
        """The normalised plan (R, T, A') to execute, with noise on its chunk."""
        values = self.model.values
        assert values is not None
        if self.std > 0:
            plan = plan + self.std * torch.randn(plan.shape, generator=self.generator)
        self.record(rows, tokens=tokens, chunk=plan[:, values.chunk])
        return super().correct_plan(rows, plan, tokens)


def weigh_episodes(done: BoolArray, members: int, generator: torch.Generator) -> Tensor:
    """How often each of M members counts each chunk, (N, B, M): alike within an episode.

    done (N, B): an episode is over after the chunk
    """
    count, rows = done.shape
    draws = torch.poisson(torch.ones(count, rows, members), generator=generator)
    begins = np.zeros((count, rows), np.int64)
    begins[1:] = np.where(done[:-1], np.arange(1, count)[:, None], 0)
    first = np.maximum.accumulate(begins, 0)  # (N, B) the first chunk of each one's episode
    return draws[first, np.arange(rows)]


def check_sampler(sampler: Sampler) -> None:
    """Raise ConfigError unless plans are drawn afresh, as a search draws them."""
    if not isinstance(sampler, Fresh):
        raise ConfigError(
            "method=values learns what fresh plans are worth, which a search draws: take "
            f"inference=ddim or another fresh sampler, not {type(sampler).__name__}"
        )


def add_values(base: PolicyModel, settings: ValuesSettings, executed: int | None) -> PolicyModel:
    """A copy of the base with values of the chunk that is executed.

    A model that has them goes on with them, whatever `members` and `hidden` say.
    """
    model = copy.deepcopy(base)
    if model.values is None:
        horizon = model.config.horizon
        model.add_values(
            {
                "first": horizon.past,
                "steps": executed or horizon.executed,
                "members": settings.members,
                "hidden": settings.hidden,
            }
        )
    return model.eval().requires_grad_(False)
