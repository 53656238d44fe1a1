"""Fresh sampling: every plan begins as pure noise (Diffusion Policy, 2303.04137)."""

from __future__ import annotations

import math

from ...spec import ConfigError, Horizon
from ..diffusion.schedule import grid
from ..diffusion.solvers import DDIM, Solver
from .base import (
    Capabilities,
    LevelTableCache,
    PlanOutcome,
    PlanRequest,
    run_sampling_loop,
    want_regime,
)


class Fresh:
    """Sample from pure noise at every call: DDPM, DDIM, DPM-Solver++ or Euler, as the solver says (Diffusion Policy).

    `start_noise` scales the noise that a plan begins with. At 0 it begins in the middle, and a solver without noise of its own
    then gives one plan for one observation, near the mean of what was demonstrated: the simplest policy of the same weights.
    """

    def __init__(
        self,
        steps: int = 10,
        solver: Solver | None = None,
        clip: float | None = 1.0,
        start_noise: float = 1.0,
    ) -> None:
        if steps < 1:
            raise ConfigError(f"inference.steps is {steps}; at least one step is needed")
        self.steps, self.solver, self.clip = steps, solver or DDIM(), clip
        self.start_noise = checked_start_noise(start_noise)
        self._level_tables = LevelTableCache()

    def check(self, capabilities: Capabilities, horizon: Horizon) -> None:
        """A plan begins at pure noise in all of its steps."""
        want_regime(capabilities, "constant", "sampling from pure noise")

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        steps, start = request.horizon.planned, self.start_noise * request.draw()
        levels = grid(request.schedule, self.steps).to(start.device)  # (S + 1,)
        denoise = request.denoiser.bind(
            request.context, self.clip, self._level_tables.of(request, levels)
        )
        pairs = [level.expand(request.rows, steps) for level in levels]
        plan = run_sampling_loop(denoise, self.solver, start, pairs, request.draw)
        return PlanOutcome(plan, denoise.nfe)


def checked_start_noise(share: float) -> float:
    """How much of its noise a plan begins with; raises ConfigError where it is none."""
    if not 0 <= share < math.inf:
        raise ConfigError(f"inference.start_noise is {share}; 1 is the noise trained with, 0 none")
    return share
