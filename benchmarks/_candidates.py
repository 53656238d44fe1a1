"""Samplers that draw several plans as pictures: candidate plans, and the one taken."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..policy.samplers.base import take_best
from ..policy.samplers.bidirectional import backward_loss, mean_distance
from ._svg import Drawing, Point

STEPS = 24
KNOWN = 16
"""Steps that the plan before still holds."""
GOAL = 0.2
END_X = 446
"""Where a plan's end is drawn."""


def make_plans(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Made-up plans (1, M, T, 1) that go round on two sides, and the plan before (1, T, 1)."""
    generator = np.random.default_rng(seed)
    time = np.linspace(0, 1, STEPS)
    side = np.where(np.arange(count) % 3 == 0, -1.0, 1.0)
    size = 0.75 + 0.2 * generator.standard_normal(count)
    offset = 0.12 * generator.standard_normal((count, 1))
    plans = np.outer(side * size, np.sin(np.pi * time)) + offset
    before = 0.7 * np.sin(np.pi * time)
    return torch.tensor(plans).reshape(1, count, STEPS, 1), torch.tensor(before).reshape(1, -1, 1)


def draw_candidates(samples: int = 15, kept: int = 5) -> str:
    """The picture, with the sampler's own distances."""
    plans, before = make_plans(samples)
    loss = backward_loss(plans, before, torch.tensor([KNOWN]), past=0, decay=0.5)[0]
    near = loss.argsort()[:kept].tolist()
    counted = torch.zeros(1, samples, dtype=torch.bool)
    counted[0, near] = True
    score = mean_distance(plans, plans, counted).masked_fill(~counted, torch.inf)
    best = int(score.argmin())
    drawing = Drawing(470, 190)
    for place in range(samples):
        kind = "kept" if place in near else "faint"
        drawing.line(_trace_plan(plans[0, place, :, 0]), kind)
    drawing.line(_trace_plan(before[0, :KNOWN, 0]), "old")
    drawing.line(_trace_plan(plans[0, best, :, 0]), "best")
    drawing.text(20, 18, "the plan before", "chunk-text")
    drawing.text(130, 18, f"{samples} samples")
    drawing.text(215, 18, f"{kept} nearest to it", "name")
    drawing.text(320, 18, "the one they agree on", "pull-text")
    return drawing.finish()


def draw_best(count: int = 8) -> str:
    """Plans with made-up values, which fall with the distance of a plan's end from a goal."""
    turn = torch.outer(torch.linspace(-0.5, 0.5, count), torch.linspace(0, 1, STEPS))
    plans = make_plans(count, seed=4)[0] + turn.reshape(1, count, STEPS, 1)
    best = take_best(plans, -(plans[:, :, -1, 0] - GOAL).abs())[0]
    drawing = Drawing(470, 190)
    for plan in plans[0]:
        drawing.line(_trace_plan(plan[:, 0]), "faint")
    drawing.line(_trace_plan(best[:, 0]), "best")
    (end,) = _trace_plan(torch.tensor([GOAL]))
    drawing.box(END_X, end[1] - 5, 10, 10, "chunk")
    drawing.text(20, 18, f"{count} plans")
    drawing.text(90, 18, "the goal", "chunk-text")
    drawing.text(160, 18, "the one that the values put first", "pull-text")
    return drawing.finish()


def _trace_plan(values: Tensor) -> list[Point]:
    """The plan as a line, time to the right."""
    return [(20 + 18.5 * step, 108 - 62 * float(value)) for step, value in enumerate(values)]
