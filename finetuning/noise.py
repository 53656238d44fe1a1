"""A noise policy: PPO over the noise that a plan begins with, the denoiser frozen (2407.19453)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.model import PolicyModel
from ..policy.noise_policy import NoisePolicy
from ..policy.samplers.base import Sampler
from ..policy.samplers.fresh import Fresh
from ..policy.samplers.loop import Transition
from ..seeds import Purpose, torch_seed
from ..spec import ConfigError, option
from .chains import Transitions
from .critic import Critic, count_features
from .ppo import (
    Experience,
    Losses,
    clip_objective,
    normalise,
    update_critic,
    update_policy,
    weigh_rollout,
)
from .rollouts import Collector, Rollout
from .settings import CriticSettings, UpdateSettings
from .tuner import Setup, Tuner


@dataclass(frozen=True)
class NoiseSettings(CriticSettings, UpdateSettings):
    """PPO over the starting noise of plans; the denoiser stays as it is (FIND, 2407.19453)."""

    rate: float = option(1e-3, "learning rate of the policy")
    batch: int = option(256, "plans in a batch")
    clip: float = option(0.2, "PPO's clip of the probability of a plan's starting noise")
    divergence: float = option(0.02, "weight of the KL divergence to standard noise; 0: none")
    stop_divergence: float = option(0.1, "KL to the policy before the update that ends it")
    hidden: int = option(64, "width of the noise policy")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, ("hidden",))
        self.check_positive(("clip",))

    def make_tuner(self, setup: Setup) -> Tuner[Any]:
        """A `NoiseTuner`."""
        return NoiseTuner(self, setup)


class NoiseTuner(Tuner[NoiseSettings]):
    """A base policy, and a policy over the noise that its plans begin with."""

    def __init__(self, settings: NoiseSettings, setup: Setup) -> None:
        """Tune the starting noise of `setup.base`.

        Raises ConfigError for a sampler whose plan is not fixed by its starting noise.
        """
        super().__init__(settings, setup)
        check_sampler(setup.sampler)
        torch.manual_seed(torch_seed(settings.seed, Purpose.FINETUNING))
        self.model = add_noise_policy(setup.base, settings.hidden, setup.executed)
        assert self.model.noise_policy is not None
        self.noise_policy = self.model.noise_policy.requires_grad_(True)
        features = count_features(self.model, self.sampler, self.executed)
        self.critic = Critic(features, settings.critic_hidden)
        self.optimizer = torch.optim.AdamW(
            self.noise_policy.parameters(), settings.rate, weight_decay=0.0
        )
        self.critic_optimizer = torch.optim.AdamW(
            self.critic.parameters(), settings.critic_rate, weight_decay=0.0
        )

    def advance_round(self) -> dict[str, float]:
        """One rollout and one update; returns numbers to log."""
        policy = DiffusionPolicy(self.model, self.sampler, self.executed)
        collector = NoiseCollector(policy, self.source, self.critic, 1.0)
        rollout = collector.collect(self.settings.chunks, self.draw_seeds(self.settings.chunks))
        self.count_training(int(rollout.periods.sum()))
        return {**rollout.describe(), **self._learn(rollout)}

    def parts(self) -> dict[str, nn.Module]:
        """The critic."""
        return {"critic": self.critic}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Those of policy and critic."""
        return {"optimizer": self.optimizer, "critic_optimizer": self.critic_optimizer}

    def _learn(self, rollout: Rollout) -> dict[str, float]:
        """Update the critic, and the policy once the critic has warmed up."""
        settings = self.settings
        generator = self.make_generator()
        experience = weigh_rollout(rollout, settings)
        loss = update_critic(self.critic, self.critic_optimizer, experience, settings, generator)
        numbers = {"critic_loss": loss}
        if self.iteration < settings.warm_up:
            return numbers
        starts = NoiseStarts.read(self.noise_policy, rollout)
        numbers |= update_policy(
            lambda index: compute_losses(self.noise_policy, starts, experience, settings, index),
            self.noise_policy,
            self.optimizer,
            torch.nonzero(experience.usable).flatten(),
            settings,
            generator,
        )
        return numbers


class NoiseCollector(Collector):
    """Records the noise that every plan began with, as a step from nowhere."""

    def keep(
        self, trace: Sequence[Transition], level_after: Tensor, chunk: Tensor
    ) -> Transitions | None:
        """One transition per plan: `next_x` is its starting noise."""
        noise = trace[0].x
        ones = torch.ones_like(level_after)
        nothing = torch.zeros_like(chunk)
        return Transitions(
            x=torch.zeros_like(noise),
            next_x=noise,
            level_from=ones,
            level_to=ones,
            counts=ones.bool(),
            chunk=chunk,
            later=nothing,
            total=nothing + 1,
        )


@dataclass(frozen=True)
class NoiseStarts:
    """The starting noise of P plans, and what the noise policy was before the update."""

    noise: Tensor  # (P, steps, A) the numbers that the policy decides
    before: Normal  # of (P, steps, A)

    @classmethod
    @torch.no_grad()
    def read(cls, policy: NoisePolicy, rollout: Rollout) -> NoiseStarts:
        """Those of a rollout, plan by plan."""
        assert rollout.steps is not None
        order = torch.argsort(rollout.steps.chunk)
        return cls(rollout.steps.next_x[order][:, policy.chunk], policy(rollout.tokens))


def compute_losses(
    policy: NoisePolicy,
    starts: NoiseStarts,
    experience: Experience,
    settings: NoiseSettings,
    index: Tensor,
) -> Losses:
    """FIND's clipped objective on the plans `index` (M,), and the KL to N(0, I), summed over w."""
    noise = starts.noise[index]
    before = Normal(starts.before.mean[index], starts.before.stddev[index])
    now = policy(experience.tokens[index])
    change = now.log_prob(noise) - before.log_prob(noise)
    ratio = torch.exp(change.flatten(1).sum(1))
    limit = torch.full_like(ratio, settings.clip)
    loss = clip_objective(ratio, normalise(experience.advantage[index]), limit)
    standard = Normal(torch.zeros_like(now.mean), torch.ones_like(now.mean))
    to_base = kl_divergence(now, standard).flatten(1).sum(1).mean()
    moved = kl_divergence(before, now).flatten(1).sum(1).mean()
    clipped = ((ratio - 1).abs() > settings.clip).float().mean()
    return Losses(loss, to_base, moved.detach(), clipped.detach())


def check_sampler(sampler: Sampler) -> None:
    """Raise ConfigError unless the starting noise fixes the plan, and is N(0, I)."""
    if not isinstance(sampler, Fresh) or sampler.solver.stochastic:
        raise ConfigError(
            "method=noise wants plans that their starting noise fixes, as inference=ddim makes "
            f"them; {type(sampler).__name__} adds noise later, or begins from the plan before"
        )
    if sampler.start_noise != 1:
        raise ConfigError(
            f"inference.start_noise is {sampler.start_noise}; method=noise learns how wide the "
            "starting noise is: leave it at 1"
        )


def add_noise_policy(base: PolicyModel, hidden: int, executed: int | None) -> PolicyModel:
    """A copy of the base with a noise policy over the chunk that is executed; it begins as N(0, I).

    A model that has one goes on with it.
    """
    model = copy.deepcopy(base)
    if model.noise_policy is None:
        horizon = model.config.horizon
        steps = executed or horizon.executed
        model.add_noise_policy({"first": horizon.past, "steps": steps, "hidden": hidden})
    return model.eval().requires_grad_(False)
