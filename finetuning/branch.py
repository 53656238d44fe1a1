"""Branches instead of a critic, and ever more trained denoising steps (B2-DiffuRL, CVPR 2025).

Rows of a group begin the same episode. Their plans share the chain of denoising steps down to the
trained ones. What a branch gained beyond its group is its advantage, so nothing learns a value, and
how hard the start was does not count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..policy.diffusion.noise import RowNoise
from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.samplers.base import PlanOutcome, PlanRequest, Sampler
from ..policy.samplers.fresh import Fresh
from ..policy.samplers.streaming import Streaming
from ..policy.samplers.warm_start import WarmStart
from ..spec import ConfigError, FloatArray, option
from .chains import StepModel, explore, trained_level
from .ppo import Experience, Losses, compute_losses
from .rollouts import Collector, Rollout, group_seeds
from .settings import LadderSettings
from .step_tuner import StepTuner
from .tuner import Setup, Tuner

SAME = 1e-6
"""Returns of a group with less standard deviation are the same: there is nothing to learn."""


@dataclass(frozen=True)
class BranchSettings(LadderSettings):
    """Branches of one start against each other; the trained steps grow (B2-DiffuRL)."""

    branches: int = option(4, "episodes of one start, of which each is compared with the others")
    first_steps: int = option(1, "last denoising steps that are trained at first")
    grow_every: int = option(10, "iterations after which one more denoising step is trained")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, ("trained_steps", "first_steps", "grow_every"))
        self.check_least(2, ("branches",))
        if self.rows % self.branches:
            raise ConfigError(
                f"method.rows is {self.rows}; groups of method.branches={self.branches} rows want "
                "a multiple of it"
            )
        if self.first_steps > self.trained_steps:
            raise ConfigError(
                f"method.first_steps is {self.first_steps}; it must be at most "
                f"method.trained_steps, {self.trained_steps}, which it grows to"
            )

    def make_tuner(self, setup: Setup) -> Tuner[Any]:
        """A `BranchTuner`."""
        return BranchTuner(self, setup)

    def count_steps(self, iteration: int) -> int:
        """How many of the last denoising steps are trained in a round."""
        return min(self.trained_steps, self.first_steps + iteration // self.grow_every)


class BranchTuner(StepTuner[BranchSettings]):
    """PPO over denoising steps with advantages relative to branches of the same start."""

    def advance_round(self) -> dict[str, float]:
        """One episode in every row, and one update; returns numbers to log."""
        settings = self.settings
        steps = settings.count_steps(self.iteration)
        noisy = share_prefix(explore(self.sampler, settings.min_std), steps, settings.branches)
        policy = DiffusionPolicy(self.model, noisy, self.executed)
        below = trained_level(self.model, self.sampler, steps)
        collector = Collector(policy, self.source, None, below)
        starts, noise = group_seeds(self.draw_seeds(0)[0], settings.branches)
        rollout = collector.collect_groups(settings.chunks, starts, noise)
        self.count_training(int(rollout.periods.sum()))
        return {
            **rollout.describe(),
            "steps": float(steps),
            **self._learn(rollout, noisy),
        }

    def _learn(self, rollout: Rollout, noisy: Sampler) -> dict[str, float]:
        """Update the policy, where the branches of some group differ."""
        settings = self.settings
        experience, differ = weigh_branches(rollout, settings.branches)
        scored = self.score_steps(rollout, noisy, experience.usable)
        numbers = {"differ": differ}
        if scored is None:
            return numbers

        def compute(model: StepModel, index: Tensor) -> Losses:
            return compute_losses(model, experience, scored, settings, index)

        generator = self.make_generator()
        return numbers | self.update_tuned(compute, noisy, len(scored.steps), generator)


def compare_branches(returns: FloatArray) -> FloatArray:
    """Advantages (G, K) of K branches of G starts: (R - mean) / std over each start's branches.

    They are 0 where all branches of a start are worth the same.
    """
    spread = returns.std(1, keepdims=True)
    apart = returns - returns.mean(1, keepdims=True)
    return np.where(spread > SAME, apart / np.maximum(spread, SAME), 0.0)


def weigh_branches(rollout: Rollout, branches: int) -> tuple[Experience, float]:
    """A rollout with each episode's advantage at all of its chunks, and how many groups differ.

    Only groups whose branches differ are learned from.
    """
    advantage = compare_branches(rollout.reward.sum(0).reshape(-1, branches))
    per_row = torch.as_tensor(advantage.reshape(-1), dtype=torch.float32)
    spread = per_row.repeat(len(rollout.reward))
    differs = torch.as_tensor((advantage != 0).any(1).repeat(branches)).repeat(len(rollout.reward))
    experience = Experience(
        scored=None,
        tokens=rollout.tokens,
        features=rollout.features,
        advantage=spread,
        returns=spread,
        usable=rollout.usable & differs,
        normalised=True,
    )
    return experience, float((advantage != 0).any(1).mean())


class PrefixNoise(RowNoise):
    """Noise that `branches` rows with neighbouring seeds share in their first `shared` draws."""

    def __init__(self, noise: RowNoise, shared: int, branches: int) -> None:
        super().__init__(noise.seeds, noise.plans, noise.device, noise.branches)
        self.shared = shared
        first = self.seeds - self.seeds % np.uint64(branches)
        self.group = RowNoise(first, self.plans, self.device, self.branches)

    def normal(self, *shape: int) -> Tensor:
        """The next draw of every row, (R, *shape) float32."""
        together = self.group.normal(*shape)
        apart = super().normal(*shape)
        if self.draws <= self.shared:
            return together
        return apart


class BranchedFresh(Fresh):
    """Fresh plans of `branches` rows that share their chain down to the last `trained` steps."""

    def __init__(self, fresh: Fresh, trained: int, branches: int) -> None:
        super().__init__(fresh.steps, fresh.solver, fresh.clip, fresh.start_noise)
        self.shared = 1 + max(0, fresh.steps - trained)  # the starting noise, and earlier steps
        self.branches = branches

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        noise = PrefixNoise(request.noise, self.shared, self.branches)
        return super().__call__(replace(request, noise=noise))


def share_prefix(noisy: Sampler, trained: int, branches: int) -> Sampler:
    """An exploring sampler whose fresh plans share a prefix; see `BranchedFresh`.

    Warm-started plans and staircases share no chain: there the branches have noise of their own.
    """
    if isinstance(noisy, Fresh):
        return BranchedFresh(noisy, trained, branches)
    assert isinstance(noisy, WarmStart | Streaming)
    noisy.fresh = BranchedFresh(noisy.fresh, trained, branches)
    return noisy
