"""Fine-tuning with PPO over denoising steps (DPPO, 2409.00588): rollouts and updates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.samplers.base import Sampler
from ..seeds import Purpose, torch_seed
from .chains import StepModel, explore
from .critic import Critic, count_features
from .ppo import Experience, Losses, compute_losses, update_critic, weigh_rollout
from .rollouts import Collector, Rollout
from .settings import CriticSettings, LadderSettings
from .step_tuner import StepTuner
from .tuner import Setup, Tuner


@dataclass(frozen=True)
class PPOSettings(CriticSettings, LadderSettings):
    """PPO over the last denoising steps (DPPO, 2409.00588)."""

    def make_tuner(self, setup: Setup) -> Tuner[Any]:
        """A `FineTuner`."""
        return FineTuner(self, setup)


class FineTuner(StepTuner[PPOSettings]):
    """PPO: a base policy, the copy that is tuned, its critic, and a source of rollouts."""

    def __init__(self, settings: PPOSettings, setup: Setup) -> None:
        """Tune `setup.base` for the sampler that it is to be deployed with.

        Raises ConfigError for a sampler that cannot be tuned, and where model and source differ.
        """
        super().__init__(settings, setup)
        torch.manual_seed(torch_seed(settings.seed, Purpose.FINETUNING))
        features = count_features(self.model, self.sampler, self.executed)
        self.critic = Critic(features, settings.critic_hidden)
        self.critic_optimizer = torch.optim.AdamW(
            self.critic.parameters(), settings.critic_rate, weight_decay=0.0
        )

    def advance_round(self) -> dict[str, float]:
        """One rollout and one update; returns numbers to log."""
        noisy = explore(self.sampler, self.settings.min_std)
        policy = DiffusionPolicy(self.model, noisy, self.executed)
        collector = Collector(policy, self.source, self.critic, self.below)
        rollout = collector.collect(self.settings.chunks, self.draw_seeds(self.settings.chunks))
        self.count_training(int(rollout.periods.sum()))
        return {**rollout.describe(), **self._learn(rollout, noisy)}

    def parts(self) -> dict[str, nn.Module]:
        """The critic."""
        return {"critic": self.critic}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Those of policy and critic."""
        return {"optimizer": self.optimizer, "critic_optimizer": self.critic_optimizer}

    def _learn(self, rollout: Rollout, noisy: Sampler) -> dict[str, float]:
        """Update the critic, and the policy once the critic has warmed up."""
        settings = self.settings
        generator = self.make_generator()
        experience = self._prepare(rollout, noisy)
        loss = update_critic(self.critic, self.critic_optimizer, experience, settings, generator)
        numbers = {"critic_loss": loss}
        scored = experience.scored
        if scored is None or self.iteration < settings.warm_up:
            return numbers

        def compute(model: StepModel, index: Tensor) -> Losses:
            return compute_losses(model, experience, scored, settings, index)

        return numbers | self.update_tuned(compute, noisy, len(scored.steps), generator)

    def _prepare(self, rollout: Rollout, noisy: Sampler) -> Experience:
        """Advantages, and the steps' probabilities before the update."""
        experience = weigh_rollout(rollout, self.settings)
        scored = self.score_steps(rollout, noisy, experience.usable)
        return replace(experience, scored=scored)
