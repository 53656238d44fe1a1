"""Step-wise search as a picture: the candidates of every step, drawn by a call of the sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..policy.diffusion.contract import BoundDenoiser
from ..policy.diffusion.noise import RowNoise
from ..policy.diffusion.schedule import alpha_sigma
from ..policy.samplers.base import PlanRequest
from ..policy.samplers.loop import Transition
from ..policy.samplers.stepwise import StepwiseSearch
from ..spec import Horizon
from ._levels import Zero, ZeroModel
from ._svg import Drawing, Point

SIDE, SPREAD = 0.7, 0.2
"""Plans lie about SIDE or about -SIDE."""
GOAL = 0.9
"""The plan that values put first."""
COUNT = 5
STEPS, SEARCHED = 8, 4
SEED = 3


class Forked(Zero):
    """The exact estimate for plans on two sides, as many on either."""

    def __call__(self, x: Tensor, level: Tensor, context: Any, prepared: Any = None) -> Tensor:
        """The expected clean plan of x (R, T, A)."""
        alpha, sigma = alpha_sigma(level.unsqueeze(-1))
        variance = alpha**2 * SPREAD**2 + sigma**2
        side = SIDE * torch.tanh(SIDE * alpha * x / variance)
        return side + alpha * SPREAD**2 / variance * (x - alpha * side)


@dataclass(frozen=True)
class ForkedModel(ZeroModel):
    """Plans of one number, worth more the nearer they are to the goal."""

    def bind(self, levels: Tensor | None, clip: float | None) -> BoundDenoiser:
        """See PlanModel."""
        return BoundDenoiser(Forked(), None, clip, None)

    def score(self, plan: Tensor) -> Tensor:
        """See PlanModel."""
        return -(plan[:, 0, 0] - GOAL).abs()


def draw_search() -> str:
    """All candidates from step to step, and the ones that went on."""
    trace: list[Transition] = []
    with torch.no_grad():
        request = PlanRequest(ForkedModel(Horizon(1, 1, 1)), RowNoise([SEED], [0]), trace=trace)
        StepwiseSearch(COUNT, STEPS, SEARCHED)(request)
    drawing = Drawing(470, 190)
    chosen: list[Point] = []
    for step, taken in enumerate(trace):
        chosen.append(_place(step, taken.x[0]))
        for row in range(len(taken.x)):
            drawing.line([_place(step, taken.x[row]), _place(step + 1, taken.next_x[row])], "kept")
    chosen.append(_place(STEPS, trace[-1].next_x[0]))
    drawing.line(chosen, "best")
    drawing.text(20, 18, "noise")
    drawing.text(190, 18, f"{COUNT} candidates a step", "name")
    drawing.text(370, 18, "what went on", "pull-text")
    return drawing.finish()


def _place(step: int, x: Tensor) -> Point:
    """Where a plan (1, 1) of a step is drawn."""
    return 20 + 53 * step, 105 - 32 * float(x)
