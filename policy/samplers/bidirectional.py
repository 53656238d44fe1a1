"""Bidirectional decoding: of many sampled plans, the one that goes on from the plan before and that the others agree with.

Liu et al. 2024 (2408.17355). The paper contrasts the samples with those of a weaker, earlier checkpoint; here the weaker
policy is the same network in fewer steps, so that one checkpoint is enough. The plan before chooses who is kept and does not
count again in the contrast, which is over all that were kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...spec import ConfigError, Horizon
from ..diffusion.solvers import DDIM, Solver
from .base import Capabilities, PlanOutcome, PlanRequest, has_plan, want_regime
from .fresh import Fresh


class BidirectionalDecoding:
    """Sample `samples` plans in `steps` each, keep the `kept` nearest to the plan before, take the one others agree with.

    Near is a sum of distances over the steps that both plans know, weighted by `decay` to the power of how far ahead a step
    lies (backward coherence). Of those kept, the plan is taken whose mean distance to the kept ones less its mean distance to
    plans of a weaker sampler, `weak_steps` steps, is least (forward contrast); `weak_steps` 0 leaves the weaker one out. A
    row without a plan keeps them all. A row's evaluations count all of its samples.
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
        self.samples, self.kept, self.decay, self.steps = samples, kept, decay, steps
        self.strong = Fresh(steps, solver or DDIM(), clip)
        if weak_steps:
            self.weak = Fresh(weak_steps, DDIM(), clip)
        else:
            self.weak = None

    def check(self, capabilities: Capabilities, horizon: Horizon) -> None:
        """Fresh samples meet plans of one level."""
        want_regime(capabilities, "constant", "inference=bid")

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        plans, nfe = self._candidates(request, self.strong, first=0)
        kept = self._kept(request, plans)
        apart = mean_distance(plans, plans, kept)
        if self.weak is not None:
            others, spent = self._candidates(request, self.weak, first=self.samples)
            apart, nfe = (
                apart - mean_distance(plans, others, self._kept(request, others)),
                nfe + spent,
            )
        chosen = apart.masked_fill(~kept, torch.inf).argmin(1)  # (R,)
        return PlanOutcome(plans[torch.arange(request.rows, device=chosen.device), chosen], nfe)

    def _candidates(
        self, request: PlanRequest, sampler: Fresh, first: int
    ) -> tuple[Tensor, Tensor]:
        """Plans (R, M, T, A) of every row, from its noise streams `first` on, and what they cost (R,)."""
        outcome = sampler(request.branches(self.samples, first))
        shape = (request.rows, self.samples)
        return outcome.plan.unflatten(0, shape), outcome.nfe.unflatten(0, shape).sum(1)

    def _kept(self, request: PlanRequest, plans: Tensor) -> Tensor:
        """Which of the plans (R, M, T, A) stay, (R, M) bool: the nearest to the plan before, all where there is none."""
        rows = has_plan(request)
        kept = torch.ones(plans.shape[:2], dtype=torch.bool, device=plans.device)
        if not rows.any():
            return kept
        before = request.take(rows.nonzero()[0]).shift_plan()
        old = torch.as_tensor(rows, device=plans.device)
        loss = backward_loss(
            plans[old], before.plan, before.known, request.horizon.past, self.decay
        )  # (R', M)
        nearest = loss.argsort(1)[:, : self.kept]
        kept[old] = torch.zeros_like(kept[old]).scatter(1, nearest, True)
        return kept


def backward_loss(plans: Tensor, before: Tensor, known: Tensor, past: int, decay: float) -> Tensor:
    """Distance (R, M) of plans (R, M, T, A) from the one before, moved on (R, T, A), of which `known` (R,) steps are real.

    The `past` first steps lie behind and do not count.
    """
    ahead = torch.arange(plans.shape[2], device=plans.device) - past
    weight = (
        decay ** ahead.clamp_min(0) * (ahead >= 0) * (ahead + past < known.unsqueeze(1))
    )  # (R, T)
    return ((plans - before.unsqueeze(1)).norm(dim=-1) * weight.unsqueeze(1)).sum(-1)


def mean_distance(plans: Tensor, others: Tensor, counted: Tensor) -> Tensor:
    """Mean distance (R, M) of each of plans (R, M, T, A) to the counted (R, N) of others (R, N, T, A)."""
    apart = torch.cdist(
        plans.flatten(2), others.flatten(2), compute_mode="donot_use_mm_for_euclid_dist"
    )  # (R, M, N)
    share = counted.to(apart.dtype)
    return (apart * share.unsqueeze(1)).sum(-1) / share.sum(-1, keepdim=True)
