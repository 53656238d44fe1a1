"""PPO over denoising steps (DPPO, 2409.00588, section 4): losses and one update."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..policy.denoisers.base import Network
from .advantages import estimate_advantages
from .chains import StepModel, Transitions, divergence
from .critic import Critic
from .rollouts import Rollout
from .settings import CriticSettings, LadderSettings, UpdateSettings


@dataclass(frozen=True)
class ScoredSteps:
    """M denoising steps, and what was thought of them before the update."""

    steps: Transitions  # M
    old_log_prob: Tensor  # (M,)
    old_mean: Tensor  # (M, T, A) of the policy before the update
    base_log_prob: Tensor  # (M,)
    base_mean: Tensor  # (M, T, A) of the base


@dataclass(frozen=True)
class Experience:
    """A rollout as an update reads it: P plans, and the denoising steps that belong to them."""

    scored: ScoredSteps | None  # None: nothing can be trained
    tokens: Tensor  # (P, K, E)
    features: Tensor  # (P, F)
    advantage: Tensor  # (P,)
    returns: Tensor  # (P,)
    usable: Tensor  # (P,) bool: plans that can be learned from
    normalised: bool = False  # whether advantages have their scale already


def weigh_rollout(rollout: Rollout, settings: CriticSettings) -> Experience:
    """A rollout with advantages by the value, without denoising steps."""
    advantage = estimate_advantages(
        rollout.reward,
        rollout.value,
        rollout.next_value,
        rollout.terminated,
        rollout.done,
        settings.discount,
        settings.trace,
    )
    returns = advantage + rollout.value
    return Experience(
        scored=None,
        tokens=rollout.tokens,
        features=rollout.features,
        advantage=torch.as_tensor(advantage.reshape(-1), dtype=torch.float32),
        returns=torch.as_tensor(returns.reshape(-1), dtype=torch.float32),
        usable=rollout.usable,
    )


class Losses(NamedTuple):
    """What a batch of samples says."""

    policy: Tensor
    divergence: Tensor  # to the base
    moved: Tensor  # KL to the policy before the update
    clipped: Tensor  # share of ratios that were clipped


def limit_ratio(settings: LadderSettings, later: Tensor, total: Tensor) -> Tensor:
    """PPO's clip (M,) of each step: `clip_first` at the noisiest, rising exponentially to `clip`.

    A call with one trained step has `clip`.
    """
    last = (total - 1).clamp_min(1)
    place = torch.where(total > 1, (total - 1 - later) / last, 1.0)
    share = torch.expm1(3 * place) / math.expm1(3)
    return settings.clip_first + (settings.clip - settings.clip_first) * share


def normalise(advantage: Tensor) -> Tensor:
    """Advantages (M,) with mean 0 and standard deviation 1."""
    return (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)


def clip_objective(ratio: Tensor, advantage: Tensor, limit: Tensor) -> Tensor:
    """PPO's loss: -min(r A, clip(r) A), r held in [1 - limit, 1 + limit]; all are (M,)."""
    held = torch.maximum(torch.minimum(ratio, 1 + limit), 1 - limit)
    return -torch.minimum(ratio * advantage, held * advantage).mean()


def compute_losses(
    model: StepModel,
    experience: Experience,
    scored: ScoredSteps,
    settings: LadderSettings,
    index: Tensor,
) -> Losses:
    """The clipped objective on the steps `index` (M',).

    Advantages are normalised within them unless they have their scale already.
    """
    steps = scored.steps.take(index)
    log_prob, taken = model.log_prob(steps, experience.tokens[steps.chunk])
    advantage = experience.advantage[steps.chunk]
    if not experience.normalised:
        advantage = normalise(advantage)
    advantage = advantage * settings.denoising_discount**steps.later
    ratio = torch.exp(log_prob - scored.old_log_prob[index])
    limit = limit_ratio(settings, steps.later, steps.total)
    policy = clip_objective(ratio, advantage, limit)
    to_base = divergence(taken, scored.base_mean[index], steps.counts).mean()
    moved = divergence(taken, scored.old_mean[index], steps.counts).mean()
    clipped = ((ratio - 1).abs() > limit).float().mean()
    return Losses(policy, to_base, moved.detach(), clipped.detach())


@torch.no_grad()
def evaluate_steps(
    model: StepModel, steps: Transitions, tokens: Tensor, batch: int
) -> tuple[Tensor, Tensor]:
    """Mean log-probabilities (M,) and means (M, T, A) of steps under a network."""
    log_probs: list[Tensor] = []
    means: list[Tensor] = []
    for index in torch.arange(len(steps)).split(batch):
        part = steps.take(index)
        log_prob, taken = model.log_prob(part, tokens[part.chunk])
        log_probs.append(log_prob)
        means.append(taken.mean)
    return torch.cat(log_probs), torch.cat(means)


class Passes(Protocol):
    """How a critic passes over a rollout."""

    @property
    def epochs(self) -> int:
        """Passes."""
        ...

    @property
    def batch(self) -> int:
        """Plans in an optimiser step."""
        ...

    @property
    def clip_norm(self) -> float:
        """Largest norm of a gradient."""
        ...


def update_critic(
    critic: Critic,
    optimizer: torch.optim.Optimizer,
    experience: Experience,
    settings: Passes,
    generator: torch.Generator,
) -> float:
    """`epochs` passes of regression onto the returns; the mean loss of the last pass."""
    plans = torch.nonzero(experience.usable).flatten()
    losses: list[float] = []
    for _ in range(settings.epochs):
        losses = []
        order = plans[torch.randperm(len(plans), generator=generator)]
        for index in order.split(settings.batch):
            error = critic(experience.features[index]) - experience.returns[index]
            loss = 0.5 * error.square().mean()
            take_step(loss, critic, optimizer, settings.clip_norm)
            losses.append(float(loss.detach()))
    return sum(losses) / max(1, len(losses))


def update_policy(
    compute: Callable[[Tensor], Losses],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    samples: Tensor,
    settings: UpdateSettings,
    generator: torch.Generator,
    share: float = 1.0,
) -> dict[str, float]:
    """`epochs` passes over a share of `samples` (M,); numbers to log, of each pass's last batch.

    `compute` gives the losses of some samples. Ends early where the policy has moved by more than
    `stop_divergence`.
    """
    taken = max(1, math.ceil(share * len(samples)))
    numbers: dict[str, float] = {}
    for _ in range(settings.epochs):
        order = torch.randperm(len(samples), generator=generator)[:taken]
        for index in samples[order].split(settings.batch):
            losses = compute(index)
            loss = losses.policy + settings.divergence * losses.divergence
            numbers = {
                "policy_loss": float(losses.policy.detach()),
                "divergence": float(losses.divergence.detach()),
                "moved": float(losses.moved),
                "clipped": float(losses.clipped),
            }
            if numbers["moved"] > settings.stop_divergence:
                return numbers
            numbers["gradient_norm"] = take_step(loss, module, optimizer, settings.clip_norm)
    return numbers


def take_step(
    loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer, clip_norm: float
) -> float:
    """One optimiser step; returns the gradient's norm before clipping."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), clip_norm)
    optimizer.step()
    if isinstance(module, Network):
        module.note_written()
    return float(norm)
