"""Best of several: fresh plans of one observation, ranked by learned values (random search).

Search over starting noise with a verifier (Ma et al., 2501.09732); the verifier is the checkpoint's
ensemble of values.
"""

from __future__ import annotations

from typing import Self

from ...spec import ConfigError, Horizon
from ..diffusion.solvers import Solver
from .base import (
    Capabilities,
    PlanOutcome,
    PlanRequest,
    Sampler,
    sum_copies,
    take_best,
    want_values,
)
from .fresh import Fresh


class BestOf(Sampler):
    """Draw `count` fresh plans, execute the one whose chunk the values put first.

    A chunk counts as the least that a member of the ensemble says of it. The other options are
    those of `Fresh`, to which `count` 1 is equal to the bit. A row's evaluations count all of its
    plans.
    """

    def __init__(
        self,
        count: int = 8,
        steps: int = 10,
        solver: Solver | None = None,
        clip: float | None = 1.0,
        start_noise: float = 1.0,
    ) -> None:
        """Build it with these options.

        count: plans that are drawn
        steps: denoiser evaluations of each plan
        solver: step from one noise level to the next
        clip: estimates are clipped to this in each number [normalised units]; none: never
        start_noise: factor of the noise that plans begin with
        """
        self.count = check_count(count)
        self.fresh = Fresh(steps, solver, clip, start_noise)
        self.steps = steps
        self.solver = self.fresh.solver
        self.clip = clip
        self.start_noise = start_noise

    def adapt_to(self, capabilities: Capabilities, horizon: Horizon) -> Self:
        """Plans begin at pure noise; the checkpoint must have values."""
        self.fresh.adapt_to(capabilities, horizon)
        want_values(capabilities, "inference=best_of")
        return self

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        asked = request.branches(self.count)
        drawn = self.fresh(asked)
        copies = (-1, self.count)
        score = asked.model.score(drawn.plan).unflatten(0, copies)  # (R, M)
        best = take_best(drawn.plan.unflatten(0, copies), score)
        return PlanOutcome(best, sum_copies(drawn.nfe, self.count))


def check_count(count: int) -> int:
    """The number of candidates; ConfigError unless there is one at least."""
    if count < 1:
        raise ConfigError(f"inference.count is {count}; draw one plan at least")
    return count
