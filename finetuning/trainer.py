"""Fine-tuning with PPO over denoising steps (DPPO, 2409.00588): rollouts and updates."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ..policy.denoisers.base import Network
from ..policy.denoisers.split import SplitNetwork
from ..policy.diffusion.solvers import DDIM
from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.samplers.base import Sampler
from ..policy.samplers.fresh import Fresh
from ..policy.samplers.streaming import Streaming
from ..policy.samplers.warm_start import WarmStart
from ..seeds import Purpose, torch_seed
from .chains import StepModel, Transitions, explore, split_model, trained_level
from .critic import Critic, count_features
from .ppo import (
    Experience,
    ScoredSteps,
    compute_losses,
    evaluate_steps,
    update_critic,
    update_policy,
    weigh_rollout,
)
from .rollouts import Collector, Rollout
from .settings import PPOSettings
from .tuner import Setup, Tuner


class FineTuner(Tuner):
    """PPO: a base policy, the copy that is tuned, its critic, and a source of rollouts."""

    def __init__(self, settings: PPOSettings, setup: Setup) -> None:
        """Tune `setup.base` for the sampler that it is to be deployed with.

        Raises ConfigError for a sampler that cannot be tuned, and where model and source differ.
        """
        super().__init__(settings, setup)
        self.settings = settings
        base, sampler = setup.base, setup.sampler
        self.below = trained_level(base, sampler, settings.trained_steps)
        self.model = split_model(base, self.below)
        network = self.model.network
        assert isinstance(network, SplitNetwork)
        self.network = network
        self.network.tuned.requires_grad_(settings.trained_steps > 0)
        torch.manual_seed(torch_seed(settings.seed, Purpose.FINETUNING))
        features = count_features(self.model, sampler, self.executed)
        self.critic = Critic(features, settings.critic_hidden)
        self.optimizer = torch.optim.AdamW(
            self.network.tuned.parameters(), settings.rate, weight_decay=0.0
        )
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
        if experience.scored is None or self.iteration < settings.warm_up:
            return numbers
        tuned = self._step_model(self.network.tuned, noisy)
        tuned.network.train()
        numbers |= update_policy(
            partial(compute_losses, tuned, experience, experience.scored, settings),
            tuned.network,
            self.optimizer,
            torch.arange(len(experience.scored.steps)),
            settings,
            generator,
            settings.share,
        )
        tuned.network.eval()
        self.network.note_written()
        return numbers

    def _prepare(self, rollout: Rollout, noisy: Sampler) -> Experience:
        """Advantages, and the steps' probabilities before the update."""
        experience = weigh_rollout(rollout, self.settings)
        if rollout.steps is None:
            return experience
        usable = experience.usable[rollout.steps.chunk]
        steps = rollout.steps.take(torch.nonzero(usable).flatten())
        log_prob, mean = self._score(self.network.tuned, noisy, steps, rollout)
        _, base_mean = self._score(self.network.base, noisy, steps, rollout)
        return replace(experience, scored=ScoredSteps(steps, log_prob, mean, base_mean))

    def _score(
        self, network: Network, noisy: Sampler, steps: Transitions, rollout: Rollout
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and means of the rollout's steps under a network."""
        model = self._step_model(network, noisy)
        return evaluate_steps(model, steps, rollout.tokens, self.settings.batch)

    def _step_model(self, network: Network, noisy: Sampler) -> StepModel:
        """A network with the solver and the clip that the exploring sampler has."""
        assert isinstance(noisy, Fresh | WarmStart | Streaming)
        assert isinstance(noisy.solver, DDIM)
        return StepModel(self.model, network, noisy.solver, noisy.clip)
