"""Advantage-weighted cloning: a policy learns from all its episodes, the better chunks more often.

AWR (1910.00177): the cloning loss with weights exp(beta * advantage). Windows are drawn in
proportion to their weights, which has the same expectation as weighting the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..seeds import Purpose, torch_seed
from ..spec import FloatArray, IntArray, option
from .cloning import CloningSettings, CloningTuner
from .critic import Critic, count_features
from .episodes import Episode
from .ppo import update_critic, weigh_rollout
from .rollouts import Rollout
from .settings import CriticSettings
from .tuner import Setup, Tuner

WEIGHT = "weight"
"""Array of a kept episode (n,), beside observations and actions."""


@dataclass(frozen=True)
class WeightingSettings(CriticSettings, CloningSettings):
    """Cloning of all episodes, each chunk weighted by its advantage (AWR, 1910.00177)."""

    actor: Literal["base", "tuned"] = option(
        "tuned", "who acts in the rollouts: the base, or the policy as it is tuned so far"
    )
    beta: float = option(1.0, "weights are exp(beta * advantage), advantages of a rollout scaled")
    most: float = option(20.0, "largest weight")
    epochs: int = option(4, "passes of the critic over a rollout")

    clip_norm = 1.0  # of the critic's gradients

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, ("epochs",))
        self.check_positive(("beta", "most"))

    def make_tuner(self, setup: Setup) -> Tuner[Any]:
        """A `WeightingTuner`."""
        return WeightingTuner(self, setup)


class WeightingTuner(CloningTuner[WeightingSettings]):
    """A cloning policy with a critic, which says how much each executed chunk is worth."""

    def __init__(self, settings: WeightingSettings, setup: Setup) -> None:
        """Tune `setup.base`; raises ConfigError as `CloningTuner` does."""
        super().__init__(settings, setup)
        torch.manual_seed(torch_seed(settings.seed, Purpose.FINETUNING))
        features = count_features(self.base, self.sampler, self.executed)
        self.valuer = Critic(features, settings.critic_hidden)
        self.critic = self.valuer
        self.critic_optimizer = torch.optim.AdamW(
            self.valuer.parameters(), settings.critic_rate, weight_decay=0.0
        )
        self._generator = self.make_generator()

    def parts(self) -> dict[str, nn.Module]:
        """The weights under training, and the critic."""
        return {**super().parts(), "critic": self.valuer}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Those of both."""
        return {**super().optimizers(), "critic_optimizer": self.critic_optimizer}

    def _keep(self, rollout: Rollout, episodes: list[Episode]) -> dict[str, float]:
        """Keep every episode with the weights of its steps; those of the warm-up are dropped."""
        settings = self.settings
        self._generator = self.make_generator()
        experience = weigh_rollout(rollout, settings)
        weight = weigh_advantages(experience.advantage, experience.usable, settings)
        weights = weight.reshape(rollout.done.shape)
        if self.iteration >= settings.warm_up:
            for episode in episodes:
                own = weights[episode.turns, episode.row]
                self.kept.add({**episode.arrays, WEIGHT: own})
        loss = update_critic(
            self.valuer, self.critic_optimizer, experience, settings, self._generator
        )
        return {"critic_loss": loss}

    def _choose_windows(self, index: IntArray) -> IntArray:
        """As many windows (N, T) as there are steps, drawn in proportion to the steps' weights."""
        weights = torch.from_numpy(self.kept.join(WEIGHT))
        drawn = torch.multinomial(weights, len(index), True, generator=self._generator)
        return index[drawn.numpy()]


def weigh_advantages(advantage: Tensor, usable: Tensor, settings: WeightingSettings) -> FloatArray:
    """exp(beta * advantage) (P,), at most `most`; advantages (P,) get mean 0 and std 1."""
    chosen = advantage[usable]
    scaled = (advantage - chosen.mean()) / (chosen.std(correction=0) + 1e-8)
    weight = torch.exp(settings.beta * scaled).clamp_max(settings.most)
    return weight.numpy().astype(np.float64)
