"""Bidirectional decoding: of many plans, the one near the plan before that the others agree with.

Liu et al. 2024 (2408.17355). The paper contrasts the samples with those of a weaker, earlier
checkpoint; here the weaker policy is the same network in fewer steps, so that one checkpoint is
enough. The plan before chooses which samples are kept. It does not count again in the contrast,
which is over all that were kept.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from ...spec import ConfigError, Horizon
from ..diffusion.solvers import DDIM, Solver
from .base import (
    Capabilities,
    PlanOutcome,
    PlanRequest,
    Sampler,
    sum_copies,
    take_best,
    want_regime,
)
from .fresh import Fresh


class BidirectionalDecoding(Sampler):
    """Sample `samples` plans, keep the `kept` nearest to the plan before, take the most agreed one.

    Near is a sum of distances over the steps that both plans hold, weighted by `decay` to the power
    of how far ahead a step lies (backward coherence). Of those kept, the plan is taken whose mean
    distance to the kept ones less its mean distance to plans of a weaker sampler, `weak_steps`
    steps, is least (forward contrast); `weak_steps` 0 leaves the weaker one out. A row without a
    plan keeps them all. A row's evaluations count all of its samples.
    """

    def __init__(
        self,
        samples: int = 15,
        kept: int = 5,
        steps: int = 10,
        weak_steps: int = 2,
        decay: float = 0.5,
        solver: Solver | None = None,
        clip: float | None = 1.0,
    ) -> None:
        """Build it with these options.

        samples: plans that are sampled
        kept: plans nearest to the previous one that are compared
        steps: denoiser evaluations of each plan
        weak_steps: denoiser evaluations of the weaker plans; 0: without them
        decay: factor of a step's weight for each step that it lies ahead
        solver: step from one noise level to the next
        clip: estimates are clipped to this in each number [normalised units]; none: never
        """
        if not 1 <= kept <= samples:
            raise ConfigError(
                f"inference.kept is {kept} of {samples} samples; keep at least one and at most all"
            )
        if weak_steps < 0:
            raise ConfigError(f"inference.weak_steps is {weak_steps}; 0 or more are wanted")
        if not 0 < decay <= 1:
            raise ConfigError(
                f"inference.decay is {decay}; a weight above 0 and at most 1 is wanted"
            )
        self.samples = samples
        self.kept = kept
        self.steps = steps
        self.weak_steps = weak_steps
        self.decay = decay
        self.solver = solver or DDIM()
        self.clip = clip
        self.strong = Fresh(steps, self.solver, clip)
        self.weak: Fresh | None = None
        if weak_steps:
            self.weak = Fresh(weak_steps, DDIM(), clip)

    def adapt_to(self, capabilities: Capabilities, horizon: Horizon) -> Self:
        """Fresh samples meet plans of one level."""
        want_regime(capabilities, "constant", "inference=bid")
        return self

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        plans, nfe = self._sample(request, self.strong, first=0)
        kept = self._keep_nearest(request, plans)
        score = mean_distance(plans, plans, kept)  # (R, M)
        if self.weak is not None:
            others, spent = self._sample(request, self.weak, first=self.samples)
            score = score - mean_distance(plans, others, self._keep_nearest(request, others))
            nfe = nfe + spent
        return PlanOutcome(take_best(plans, (-score).masked_fill(~kept, -torch.inf)), nfe)

    def _sample(self, request: PlanRequest, sampler: Fresh, first: int) -> tuple[Tensor, Tensor]:
        """Plans (R, M, T, A), from every row's noise stream `first` on, and their cost (R,)."""
        outcome = sampler(request.branches(self.samples, first))
        plans = outcome.plan.unflatten(0, (-1, self.samples))
        return plans, sum_copies(outcome.nfe, self.samples)

    def _keep_nearest(self, request: PlanRequest, plans: Tensor) -> Tensor:
        """Which plans (R, M, T, A) are nearest to the one before, (R, M) bool; without one all."""
        has_plan = request.has_plan()
        kept = torch.ones(plans.shape[:2], dtype=torch.bool, device=plans.device)
        if not has_plan.any():
            return kept
        before = request.take(has_plan.nonzero()[0]).shift_plan()
        old = torch.as_tensor(has_plan, device=plans.device)
        past = request.model.horizon.past
        loss = backward_loss(plans[old], before.plan, before.known, past, self.decay)  # (R', M)
        nearest = loss.argsort(1)[:, : self.kept]
        kept[old] = torch.zeros_like(kept[old]).scatter(1, nearest, True)
        return kept


def backward_loss(plans: Tensor, before: Tensor, known: Tensor, past: int, decay: float) -> Tensor:
    """Distance (R, M) of plans (R, M, T, A) from the shifted one before (R, T, A).

    Only its `known` (R,) first steps are real. The `past` first ones lie behind and do not count.
    """
    index = torch.arange(plans.shape[2], device=plans.device)
    weight = decay ** (index - past).clamp_min(0) * (index >= past)
    weight = weight * (index < known.unsqueeze(1))  # (R, T)
    return ((plans - before.unsqueeze(1)).norm(dim=-1) * weight.unsqueeze(1)).sum(-1)


def mean_distance(plans: Tensor, others: Tensor, counted: Tensor) -> Tensor:
    """Mean distance (R, M) of plans (R, M, T, A) to the counted (R, N) of others (R, N, T, A)."""
    # Matrix products would lose the distances of plans that are nearly the same.
    exact = "donot_use_mm_for_euclid_dist"
    apart = torch.cdist(plans.flatten(2), others.flatten(2), compute_mode=exact)  # (R, M, N)
    share = counted.to(apart.dtype)
    return (apart * share.unsqueeze(1)).sum(-1) / share.sum(-1, keepdim=True)
