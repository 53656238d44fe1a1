"""Noise levels of every action step before, during and after a sampler's call, as pictures.

The samplers themselves run here, on a network that always answers zero: their levels do not depend
on its answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..policy.diffusion.contract import BoundDenoiser, Denoiser
from ..policy.diffusion.guidance import prefix_weights
from ..policy.diffusion.noise import RowNoise
from ..policy.diffusion.schedule import VPCosine
from ..policy.samplers.base import Capabilities, PlanRequest, PreviousPlan, Sampler
from ..policy.samplers.loop import Transition
from ..spec import Horizon
from ._svg import Drawing

HORIZON = Horizon(1, 24, 8)
REGIMES = ("staircase", "constant", "prefix")
BAR = 8
HIGH = 70
"""Height of a bar of level 1."""


class Zero(Denoiser):
    """Estimates a clean plan of zeros."""

    def __init__(self) -> None:
        pass

    def __call__(self, x: Tensor, level: Tensor, context: Any, prepared: Any = None) -> Tensor:
        """Zeros that depend on x, so that guidance can ask for gradients."""
        return 0 * x


@dataclass(frozen=True)
class ZeroModel:
    """A `PlanModel` of one row; see `policy.samplers.base.PlanModel`."""

    horizon: Horizon
    width: int = 1
    schedule: VPCosine = field(default_factory=VPCosine)
    discrete: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.bool))
    discrete_size: float = 1.0

    def bind(self, levels: Tensor | None, clip: float | None) -> BoundDenoiser:
        """See PlanModel."""
        return BoundDenoiser(Zero(), None, clip, None)

    def unconditional(self) -> ZeroModel:
        """See PlanModel."""
        return self

    def anchor(self) -> Tensor:
        """See PlanModel."""
        return torch.zeros(1, self.horizon.planned, 1)

    def steer_noise(self, noise: Tensor) -> Tensor:
        """See PlanModel."""
        return noise

    def score(self, plan: Tensor) -> Tensor:
        """See PlanModel."""
        return torch.zeros(len(plan))

    def take(self, rows: Tensor) -> ZeroModel:
        """See PlanModel."""
        return self


@dataclass(frozen=True)
class Course:
    """Levels (T,) of a second plan: what the first one left, then before and after each step."""

    before: list[float]
    steps: list[list[float]]


def follow_levels(sampler: Sampler, frozen: int = 0) -> Course:
    """Plan twice, and keep the levels of the second call."""
    capabilities = Capabilities(REGIMES, HORIZON, anchored=True, unconditional=True)
    sampler = sampler.adapt_to(capabilities, HORIZON)
    first = PlanRequest(ZeroModel(HORIZON), RowNoise([0], [0]))
    outcome = sampler(first)
    level = outcome.level
    if level is None:
        level = torch.zeros(outcome.plan.shape[:2])
    executed = torch.tensor([HORIZON.executed])
    previous = PreviousPlan(outcome.plan, level, executed, torch.tensor([frozen]))
    trace: list[Transition] = []
    sampler(replace(first, noise=RowNoise([0], [1]), previous=previous, trace=trace))
    steps = [trace[0].level_from[0].tolist()]
    for transition in trace:
        steps.append(transition.level_to[0].tolist())
    return Course(level[0].tolist(), steps)


def weigh_prefix(frozen: int) -> list[float]:
    """Weight (T,) with which real-time chunking pulls each step to the plan before."""
    known = torch.tensor([HORIZON.planned - HORIZON.executed])
    weight = prefix_weights(
        HORIZON.planned, HORIZON.past, torch.tensor([frozen]), known, fade="exp"
    )
    return weight[0].tolist()


def draw_levels(
    sampler: Sampler,
    before: str,
    start: str,
    frozen: int = 0,
    pull: Sequence[float] = (),
) -> str:
    """An SVG of four panels: before the call, its start, half-way, and after it.

    `before` and `start` are the titles of the first two panels. A `before` that begins with
    `nothing` leaves its panel empty, one that begins with `the plan` marks what was executed.
    `pull` (T,) is drawn as a line.
    """
    course = follow_levels(sampler, frozen)
    count = len(course.steps) - 1
    half = (count + 1) // 2
    drawing = Drawing(470, 268)
    if before.startswith("nothing"):
        drawing.text(60, 72, before)
    else:
        executed = "executed" * before.startswith("the plan")
        draw_panel(drawing, 0, before, course.before, executed=executed)
    draw_panel(drawing, 1, start, course.steps[0], frozen, pull=pull)
    draw_panel(drawing, 2, f"after {half} of {count} steps", course.steps[half], frozen, pull=pull)
    draw_panel(drawing, 3, "after the call", course.steps[-1], frozen, executed="next chunk")
    return drawing.finish()


def draw_panel(
    drawing: Drawing,
    place: int,
    title: str,
    levels: Sequence[float],
    frozen: int = 0,
    executed: str = "",
    pull: Sequence[float] = (),
) -> None:
    """One panel: a bar per action step, as high as its noise level."""
    left = 40 + 228 * (place % 2)
    top = 28 + 134 * (place // 2)
    floor = top + HIGH
    begin = left + BAR * HORIZON.past
    drawing.text(left, top - 10, title)
    if executed:
        drawing.box(begin, top, BAR * HORIZON.executed, HIGH, "chunk")
        behind = begin + 2 + 44 * (frozen > 0)
        drawing.text(behind, floor + 14, executed, "small chunk-text")
    if frozen:
        drawing.box(begin, top, BAR * frozen, HIGH, "frozen")
        drawing.text(begin + 2, floor + 14, "frozen", "small frozen-text")
    for step, level in enumerate(levels):
        high = max(1.5, HIGH * level)
        drawing.box(left + BAR * step + 1, floor - high, BAR - 2, high, "level")
    if pull:
        points = []
        for step, weight in enumerate(pull):
            points.append((left + BAR * (step + 0.5), floor - HIGH * weight))
        drawing.line(points, "pull")
        drawing.text(left + 100, floor + 14, "pull to the old plan", "small pull-text")
    drawing.line([(left, top), (left, floor), (left + BAR * len(levels), floor)], "axis")
    for level in (0, 1):
        drawing.text(left - 12, floor - HIGH * level + 4, str(level), "small")
