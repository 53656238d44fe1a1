"""Fresh sampling: every plan begins as pure noise (Diffusion Policy, 2303.04137)."""

from __future__ import annotations

import math
from typing import Self

from ...spec import ConfigError, Horizon
from ..diffusion.schedule import check_steps
from ..diffusion.solvers import DDIM, Solver
from .base import Capabilities, PlanOutcome, PlanRequest, Sampler, run_sampler, want_regime


class Fresh(Sampler):
    """Sample from pure noise at every call: DDPM, DDIM, DPM-Solver++ or Euler, as the solver says.

    `start_noise` scales the noise that a plan begins with. At 0 it begins in the middle, and a
    solver without noise of its own then gives one plan for one observation, near the mean of what
    was demonstrated: the simplest policy of the same weights.
    """

    def __init__(
        self,
        steps: int = 10,
        solver: Solver | None = None,
        clip: float | None = 1.0,
        start_noise: float = 1.0,
    ) -> None:
        """Build it with these options.

        steps: denoiser evaluations of a plan
        solver: step from one noise level to the next
        clip: estimates are clipped to this in each number [normalised units]; none: never
        start_noise: factor of the noise that a plan begins with; 0: one plan for one observation
        """
        self.steps = check_steps(steps)
        self.solver = solver or DDIM()
        self.clip = clip
        self.start_noise = check_start_noise(start_noise)

    def adapt_to(self, capabilities: Capabilities, horizon: Horizon) -> Self:
        """A plan begins at pure noise in all of its action steps."""
        want_regime(capabilities, "constant", "sampling from pure noise")
        return self

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        x = request.draw_start(self.start_noise)
        return run_sampler(request, x, request.grid(self.steps), self.solver, self.clip)


def check_start_noise(share: float) -> float:
    """The share of its noise that a plan begins with; ConfigError where it is no share."""
    if not 0 <= share < math.inf:
        raise ConfigError(f"inference.start_noise is {share}; 1 is the noise trained with, 0 none")
    return share
