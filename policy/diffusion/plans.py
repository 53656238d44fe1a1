"""How a plan begins and moves on: value in, value out.

A way of inference is a callable PlanRequest -> PlanOutcome. `descend` is the one loop that all of them share: it takes a plan
down explicit pairs of levels with a solver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...spec import ConfigError, Horizon, IntArray
from .contract import BoundDenoiser, Denoiser
from .noise import RowNoise
from .schedule import Schedule, grid
from .solvers import DDIM, Solver


@dataclass(frozen=True)
class PlanRequest:
    """What a way of inference needs to make plans for R rows."""

    denoiser: Denoiser
    schedule: Schedule
    context: Any
    horizon: Horizon
    width: int
    noise: RowNoise
    previous: Tensor | None = None  # (R, T, A) the plan each row had before; NaN where it had none
    executed: IntArray | None = None  # (R,) actions of that plan that were really executed

    @property
    def rows(self) -> int:
        """R."""
        return len(self.noise.seeds)


@dataclass(frozen=True)
class PlanOutcome:
    """The plan to execute from, normalised, and what it cost."""

    plan: Tensor  # (R, T, A)
    nfe: Tensor  # (R,) denoiser evaluations


Way = Callable[[PlanRequest], PlanOutcome]


def descend(denoise: BoundDenoiser, solver: Solver, x: Tensor, levels: Sequence[Tensor], noise: Callable[[], Tensor]) -> Tensor:
    """Move x (R, T, A) through `levels`, a falling sequence of (R, T).

    A stochastic solver draws noise at every step, used or not: were a step without noise skipped, which of its draws a row
    gets would depend on the levels of the rows beside it.
    """
    history = None
    for number, (level_from, level_to) in enumerate(pairwise(levels)):
        denoise.step = number
        x, std, history = solver.step(denoise, x, level_from, level_to, history)
        if solver.stochastic:
            x = x + std * noise()
    return x


class Fresh:
    """Sample from pure noise at every call: DDPM, DDIM, DPM-Solver++ or Euler, as the solver says (Diffusion Policy)."""

    def __init__(self, steps: int = 10, solver: Solver | None = None, clip: float | None = 1.0) -> None:
        if steps < 1:
            raise ConfigError(f"inference.steps is {steps}; at least one step is needed")
        self.steps, self.solver, self.clip = steps, solver or DDIM(), clip

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        steps = request.horizon.planned
        start = request.noise.normal(steps, request.width)
        levels = grid(request.schedule, self.steps).to(start.device)  # (S + 1,)
        denoise = request.denoiser.bind(request.context, self.clip, request.denoiser.network.prepare(levels[:-1], steps))
        pairs = [level.expand(request.rows, steps) for level in levels]
        plan = descend(denoise, self.solver, start, pairs, lambda: request.noise.normal(steps, request.width))
        assert denoise.nfe is not None
        return PlanOutcome(plan, denoise.nfe)


def check_finite(plan: Tensor) -> None:
    """Raise ConfigError when a plan holds a number that is not finite: nothing of it may reach a robot."""
    if not bool(torch.isfinite(plan).all()):
        raise ConfigError("the policy's plan is not finite: the observation or the weights hold NaN or infinity")
