"""PPO over denoising steps (DPPO, 2409.00588, section 4): losses and one update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .chains import StepModel, Transitions, divergence
from .critic import Critic
from .settings import PPOSettings


@dataclass(frozen=True)
class ScoredSteps:
    """M denoising steps, and what was thought of them before the update."""

    steps: Transitions  # M
    old_log_prob: Tensor  # (M,)
    old_mean: Tensor  # (M, T, A) of the policy before the update
    base_mean: Tensor  # (M, T, A) of the base


@dataclass(frozen=True)
class Experience:
    """A rollout as an update reads it: P plans, and the denoising steps that belong to them."""

    scored: ScoredSteps | None  # None: nothing can be trained
    tokens: Tensor  # (P, K, E)
    features: Tensor  # (P, F)
    advantage: Tensor  # (P,)
    returns: Tensor  # (P,)
    usable: Tensor  # (P,) bool: plans that were executed


class Losses(NamedTuple):
    """What a batch of denoising steps says."""

    policy: Tensor
    divergence: Tensor  # to the base
    moved: Tensor  # KL to the policy before the update
    clipped: Tensor  # share of ratios that were clipped


def limit_ratio(settings: PPOSettings, later: Tensor, total: Tensor) -> Tensor:
    """PPO's clip (M,) of each step: `clip_first` at the noisiest, rising exponentially to `clip`.

    A call with one trained step has `clip`.
    """
    last = (total - 1).clamp_min(1)
    place = torch.where(total > 1, (total - 1 - later) / last, 1.0)
    share = torch.expm1(3 * place) / math.expm1(3)
    return settings.clip_first + (settings.clip - settings.clip_first) * share


def compute_losses(
    model: StepModel,
    experience: Experience,
    scored: ScoredSteps,
    index: Tensor,
    settings: PPOSettings,
) -> Losses:
    """The clipped objective on the steps `index` (M',), advantages normalised within them."""
    steps = scored.steps.take(index)
    log_prob, taken = model.log_prob(steps, experience.tokens[steps.chunk])
    advantage = experience.advantage[steps.chunk]
    advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
    advantage = advantage * settings.denoising_discount**steps.later
    ratio = torch.exp(log_prob - scored.old_log_prob[index])
    limit = limit_ratio(settings, steps.later, steps.total)
    held = torch.maximum(torch.minimum(ratio, 1 + limit), 1 - limit)
    policy = -torch.minimum(ratio * advantage, held * advantage).mean()
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


def update_critic(
    critic: Critic,
    optimizer: torch.optim.Optimizer,
    experience: Experience,
    settings: PPOSettings,
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
            _take_step(loss, critic, optimizer, settings)
            losses.append(float(loss.detach()))
    return sum(losses) / max(1, len(losses))


def update_policy(
    model: StepModel,
    optimizer: torch.optim.Optimizer,
    experience: Experience,
    scored: ScoredSteps,
    settings: PPOSettings,
    generator: torch.Generator,
) -> dict[str, float]:
    """`epochs` passes over a share of the steps; numbers to log, of the last batch of each pass.

    Ends early where the policy has moved by more than `stop_divergence`.
    """
    count = len(scored.steps)
    taken = max(1, math.ceil(settings.share * count))
    numbers: dict[str, float] = {}
    for _ in range(settings.epochs):
        order = torch.randperm(count, generator=generator)[:taken]
        for index in order.split(settings.batch):
            losses = compute_losses(model, experience, scored, index, settings)
            loss = losses.policy + settings.divergence * losses.divergence
            numbers = {
                "policy_loss": float(losses.policy.detach()),
                "divergence": float(losses.divergence.detach()),
                "moved": float(losses.moved),
                "clipped": float(losses.clipped),
            }
            if numbers["moved"] > settings.stop_divergence:
                return numbers
            numbers["gradient_norm"] = _take_step(loss, model.network, optimizer, settings)
            model.network.note_written()
    return numbers


def _take_step(
    loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer, settings: PPOSettings
) -> float:
    """One optimiser step; returns the gradient's norm before clipping."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)
    optimizer.step()
    return float(norm)
