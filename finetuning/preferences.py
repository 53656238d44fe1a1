"""Preferences between two episodes of one start, without a reward model (D3PO, 2311.13231).

A denoising step is an action. Each step of the better episode shall become more probable against
the base than the same step of the other episode: DPO's loss (2305.18290), step by step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.samplers.base import Sampler
from ..spec import ConfigError, IntArray, option
from .chains import StepModel, Transitions, divergence, explore
from .choices import FILE, ChoicesWanted, Judge, compare_pairs, read_choices
from .ppo import Losses, ScoredSteps
from .rollouts import Collector, Rollout, group_seeds
from .settings import StepSettings
from .step_tuner import StepTuner
from .tuner import Setup, Tuner


@dataclass(frozen=True)
class PreferenceSettings(StepSettings):
    """Preferences between two episodes of one start (D3PO, 2311.13231)."""

    divergence: float = option(0.0, "weight of a KL divergence to the base beside the loss's own")
    by: Judge = option(
        "success", "who prefers: success (then the return), return, or file: a person's choices"
    )
    beta: float = option(1.0, "how much the base holds: factor of the log-ratios in the loss")
    fade: float = option(0.97, "weight of a chunk against the one before it")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, ("trained_steps",))
        self.check_positive(("beta", "fade"))
        self.check_shares(("fade",))
        if self.rows % 2:
            raise ConfigError(f"method.rows is {self.rows}; pairs want an even number")

    def make_tuner(self, setup: Setup) -> Tuner[Any]:
        """A `PreferenceTuner`."""
        return PreferenceTuner(self, setup)


class PreferenceTuner(StepTuner[PreferenceSettings]):
    """Rows 2 g and 2 g + 1 begin the same episode; the steps of the better one are preferred."""

    def advance_round(self) -> dict[str, float]:
        """One episode in every row, and one update; returns numbers to log.

        Raises ChoicesWanted where a person is to choose first. The round is then run again, to the
        bit, once the choices are there.
        """
        settings = self.settings
        noisy = explore(self.sampler, settings.min_std)
        policy = DiffusionPolicy(self.model, noisy, self.executed)
        collector = Collector(policy, self.source, None, self.below)
        starts, noise = group_seeds(self.draw_seeds(0)[0], 2)
        rollout = collector.collect_groups(settings.chunks, starts, noise)
        better = self._judge(rollout)
        self.count_training(int(rollout.periods.sum()))
        return {
            **rollout.describe(),
            "differ": float((better != 0).mean()),
            **self._learn(rollout, better, noisy),
        }

    def _judge(self, rollout: Rollout) -> IntArray:
        """The better episode of each pair (G,), see `compare_pairs`."""
        if self.settings.by != "file":
            return compare_pairs(rollout, self.settings.by)
        pairs = self.source.rows // 2
        folder = self.folder / "choices" / f"{self.iteration:03d}"
        if not (folder / FILE).exists():
            if self.iteration:
                self.save()
            raise ChoicesWanted(folder, pairs)
        return read_choices(folder / FILE, pairs)

    def _learn(self, rollout: Rollout, better: IntArray, noisy: Sampler) -> dict[str, float]:
        """Update the policy, where some pair differs."""
        settings = self.settings
        scored = self.score_steps(rollout, noisy, find_usable(rollout, better))
        if scored is None:
            return {}
        pairs = match_steps(scored.steps, better)
        weight = settings.fade ** (scored.steps.chunk[pairs[:, 0]] // self.source.rows)

        def compute(model: StepModel, index: Tensor) -> Losses:
            tokens = rollout.tokens
            return compute_losses(model, tokens, scored, pairs[index], weight[index], settings)

        numbers = self.update_tuned(compute, noisy, len(pairs), self.make_generator())
        numbers["misjudged"] = numbers.pop("clipped")
        return numbers


def find_usable(rollout: Rollout, better: IntArray) -> Tensor:
    """The plans (P,) of pairs that differ, while both episodes were run."""
    run = rollout.periods > 0  # (N, B)
    together = run & run.reshape(len(run), -1, 2).all(2).repeat(2, 1)
    return torch.as_tensor((together & np.repeat(better != 0, 2)).reshape(-1))


def match_steps(steps: Transitions, better: IntArray) -> Tensor:
    """Indices (M, 2): a step of a better episode, and the same step of the other one.

    The same step is that of the same chunk, with as many steps to come.
    """
    known: dict[tuple[int, int], int] = {}
    for index, place in enumerate(zip(steps.chunk.tolist(), steps.later.tolist(), strict=True)):
        known[place] = index
    rows = 2 * len(better)
    found: list[tuple[int, int]] = []
    for (plan, later), index in known.items():
        pair = plan % rows // 2
        other = known.get((plan + 1, later))
        if plan % 2 or other is None:
            continue
        if better[pair] > 0:
            found.append((index, other))
        else:
            found.append((other, index))
    return torch.as_tensor(found)


def compute_losses(
    model: StepModel,
    tokens: Tensor,
    scored: ScoredSteps,
    pairs: Tensor,
    weight: Tensor,
    settings: PreferenceSettings,
) -> Losses:
    """D3PO's loss on pairs (M, 2) of steps, -log sigmoid(beta (l_w - l_l)), weights (M,).

    l is the mean over a step's numbers of log p - log p_base. The share of pairs that the policy
    judges otherwise stands where the clipped ratios do in PPO.
    """
    both = pairs.flatten()
    steps = scored.steps.take(both)
    log_prob, taken = model.log_prob(steps, tokens[steps.chunk])
    gained = (log_prob - scored.base_log_prob[both]).reshape(-1, 2)
    margin = gained[:, 0] - gained[:, 1]
    loss = -(weight * torch.nn.functional.logsigmoid(settings.beta * margin)).sum() / weight.sum()
    to_base = divergence(taken, scored.base_mean[both], steps.counts).mean()
    moved = divergence(taken, scored.old_mean[both], steps.counts).mean()
    wrong = (margin < 0).float().mean()
    return Losses(loss, to_base, moved.detach(), wrong.detach())
