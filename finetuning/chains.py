"""Denoising steps as actions: what a rollout keeps of them, and their probability.

The two-layer MDP of DPPO (2409.00588, section 4): a denoising step from x to next_x is an action of
a Gaussian policy. Its mean is the solver's own step, its std the one that was sampled with.
Letters: M transitions, T action steps of a plan, A numbers of an action.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor

from ..policy.denoisers.base import Network
from ..policy.denoisers.split import SplitNetwork
from ..policy.diffusion.contract import Denoiser
from ..policy.diffusion.schedule import grid
from ..policy.diffusion.solvers import DDIM
from ..policy.model import PolicyModel
from ..policy.samplers.base import Sampler
from ..policy.samplers.fresh import Fresh
from ..policy.samplers.loop import Transition
from ..policy.samplers.streaming import Streaming
from ..policy.samplers.warm_start import WarmStart
from ..policy.training.api import node
from ..spec import ConfigError, Horizon

EXPLORED = (Fresh, WarmStart, Streaming)


@dataclass(frozen=True)
class Transitions:
    """M denoising steps that were sampled and can be trained."""

    x: Tensor  # (M, T, A) the plan before the step
    next_x: Tensor  # (M, T, A) the plan after it
    level_from: Tensor  # (M, T)
    level_to: Tensor  # (M, T)
    counts: Tensor  # (M, T) bool: action steps whose probability counts
    chunk: Tensor  # (M,) which plan of the rollout the step belongs to
    later: Tensor  # (M,) trained steps of the same call that come after it
    total: Tensor  # (M,) trained steps of the call

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor) -> Self:
        """Some of them, by an index (M',)."""
        return replace(
            self, **{part.name: getattr(self, part.name)[index] for part in fields(self)}
        )

    @classmethod
    def join(cls, parts: Sequence[Transitions]) -> Transitions:
        """All transitions of several calls."""
        joined = {}
        for part in fields(cls):
            joined[part.name] = torch.cat([getattr(each, part.name) for each in parts])
        return cls(**joined)


def split_model(model: PolicyModel, trained_level: float) -> PolicyModel:
    """A copy whose network is a base and a copy of it to be tuned up to a noise level.

    A model that was split before goes on with its own two networks. Raises ConfigError where it was
    split at another level.
    """
    network = model.network
    if isinstance(network, SplitNetwork):
        if abs(network.below - trained_level) > 1e-6:
            raise ConfigError(
                f"the checkpoint was fine-tuned up to the noise level {network.below:.4f}, which "
                f"is not {trained_level:.4f}: give the same number of trained steps"
            )
        return copy.deepcopy(model)
    described = node(SplitNetwork, network=dict(model.config.denoiser), below=trained_level)
    split = PolicyModel(replace(model.config, denoiser=described))
    weights: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("network."):
            rest = name.removeprefix("network.")
            weights[f"network.base.{rest}"] = tensor
            weights[f"network.tuned.{rest}"] = tensor
        else:
            weights[name] = tensor
    split.load_state_dict(weights)
    split.regimes = model.regimes
    split.measured_start = model.measured_start
    return split.eval().requires_grad_(False)


def trained_level(model: PolicyModel, sampler: Sampler, steps: int) -> float:
    """The noise level that the last `steps` denoising steps of a fresh plan begin at.

    1 where all are trained, and for samplers whose every step lies below it.
    """
    fresh = sampler
    if isinstance(sampler, WarmStart | Streaming):
        fresh = sampler.fresh
    if not isinstance(fresh, Fresh):
        raise ConfigError(_cannot_explore(sampler))
    if steps <= 0:
        return 0.0
    if steps >= fresh.steps:
        return 1.0
    levels = grid(model.schedule, fresh.steps)
    return float(levels[fresh.steps - steps]) + 1e-6


def explore(sampler: Sampler, min_std: float) -> Sampler:
    """The sampler with ancestral noise of at least `min_std` in every step.

    Raises ConfigError for a sampler whose steps have no probability.
    """
    solver = DDIM(1.0, min_std)
    noisy = copy.copy(sampler)
    if isinstance(noisy, WarmStart) and noisy.fallback is not None:
        raise ConfigError("fine-tuning cannot follow inference.fallback: leave it out")
    if not isinstance(noisy, EXPLORED):
        raise ConfigError(_cannot_explore(sampler))
    noisy.solver = solver
    if isinstance(noisy, WarmStart | Streaming):
        fresh = noisy.fresh
        noisy.fresh = Fresh(fresh.steps, solver, fresh.clip, fresh.start_noise)
    return noisy


def _cannot_explore(sampler: Sampler) -> str:
    known = ", ".join(each.__name__ for each in EXPLORED)
    return f"{type(sampler).__name__} cannot be fine-tuned; {known} can"


def keep_trained(
    trace: Sequence[Transition],
    level_after: Tensor,
    chunk: Tensor,
    horizon: Horizon,
    below: float,
) -> Transitions | None:
    """The transitions of one planning call (R rows) that can be trained; None where none can.

    level_after (R, T) is the noise that the call has left in the plan, chunk (R,) the number of
    each row's plan in the rollout. What counts of a plan is what is executed next, and what stays
    noisy and goes on in the next call.
    """
    executed = torch.zeros_like(level_after, dtype=torch.bool)
    executed[:, horizon.past : horizon.past + horizon.executed] = True
    matters = executed | (level_after > 0)
    kept: list[Transition] = []
    masks: list[Tensor] = []
    for step in trace:
        random = step.std.squeeze(-1) > 0
        counts = matters & random & (step.level_from <= below)
        if bool(counts.any()):
            kept.append(step)
            masks.append(counts)
    parts: list[Transitions] = []
    for place, (step, counts) in enumerate(zip(kept, masks, strict=True)):
        later = torch.full_like(chunk, len(kept) - 1 - place)
        total = torch.full_like(chunk, len(kept))
        level_from = step.level_from.expand(counts.shape)
        level_to = step.level_to.expand(counts.shape)
        parts.append(
            Transitions(step.x, step.next_x, level_from, level_to, counts, chunk, later, total)
        )
    if not parts:
        return None
    return Transitions.join(parts)


@dataclass(frozen=True)
class StepModel:
    """The Gaussian policy of denoising steps: one network, and how its steps are sampled."""

    model: PolicyModel  # gives preconditioning
    network: Network
    solver: DDIM
    clip: float | None

    def step(self, steps: Transitions, tokens: Tensor) -> Transition:
        """The steps as this network would take them; tokens (M, K, E) are their observations'."""
        denoiser = Denoiser(self.network, self.model.denoiser.preconditioner)
        denoise = partial(denoiser.bind(self.network.encode_context(tokens), self.clip), step=None)
        moved = self.solver.step(denoise, steps.x, steps.level_from, steps.level_to, None)
        return Transition(
            steps.x, steps.next_x, moved.mean, moved.std, steps.level_from, steps.level_to
        )

    def log_prob(self, steps: Transitions, tokens: Tensor) -> tuple[Tensor, Transition]:
        """Mean log-probability (M,) over the numbers that count, and the steps themselves."""
        taken = self.step(steps, tokens)
        return mean_over(taken.log_prob(), steps.counts), taken


def mean_over(values: Tensor, counts: Tensor) -> Tensor:
    """Mean (M,) of values (M, T, A) over the action steps that count, (M, T)."""
    weight = counts.unsqueeze(-1).to(values.dtype)
    total = (values * weight).flatten(1).sum(1)
    return total / (weight.flatten(1).sum(1) * values.shape[-1]).clamp_min(1)


def divergence(one: Transition, base_mean: Tensor, counts: Tensor) -> Tensor:
    """Mean KL (M,) of two Gaussian steps with the same std: (mean - base_mean)^2 / (2 std^2)."""
    std = torch.where(one.std > 0, one.std, 1.0)
    return mean_over(0.5 * ((one.mean - base_mean) / std).square(), counts)
