"""The sampling loop that all samplers share, a pure function, and what it records of its steps."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..diffusion.contract import GridDenoiser
from ..diffusion.solvers import Solver


class Transition(NamedTuple):
    """One step of a sampling chain, x -> next_x: an action in DPPO's sense (2409.00588)."""

    x: Tensor  # (R, T, A) the plan before the step
    next_x: Tensor  # (R, T, A) mean + std * noise
    mean: Tensor  # (R, T, A)
    std: Tensor  # (R, T, 1), 0 at action steps that do not move or get no noise
    level_from: Tensor  # (R, T)
    level_to: Tensor  # (R, T)

    def log_prob(self) -> Tensor:
        """log N(next_x; mean, std^2), (R, T, A), with next_x taken as given; 0 where std is 0.

        A solver's `min_std` makes std positive at every action step that moves.
        """
        random = self.std > 0
        std = torch.where(random, self.std, 1.0)
        z = (self.next_x.detach() - self.mean) / std
        density = -0.5 * z.square() - std.log() - 0.5 * math.log(2 * math.pi)
        return torch.where(random, density, 0.0)


def sample(
    denoise: GridDenoiser,
    solver: Solver,
    x: Tensor,
    noises: Tensor | None,
    levels: Tensor,
    trace: list[Transition] | None = None,
) -> Tensor:
    """Take the plans x (R, T, A) along levels (S + 1, R, T), with noises (S, R, T, A).

    noises None adds no noise, as a solver that is not stochastic wants. The result depends on the
    arguments alone: all noise is drawn before, R stays the same, and nothing is read back to the
    host, so that `torch.compile(fullgraph=True)` takes the loop as one graph. The denoiser counts
    its evaluations; `trace` gets one Transition per step.

    With gradients enabled the denoiser uses no prepared level table, whatever it was bound to: a
    table is made without gradients, and would cut the level embedding off.
    """
    history = None
    for step in range(len(levels) - 1):
        if torch.is_grad_enabled():
            number = None
        else:
            number = step
        here = partial(denoise, step=number)
        level_from, level_to = levels[step], levels[step + 1]
        moved = solver.step(here, x, level_from, level_to, history)
        next_x = moved.mean
        if noises is not None:
            next_x = moved.mean + moved.std * noises[step]
        if trace is not None:
            trace.append(Transition(x, next_x, moved.mean, moved.std, level_from, level_to))
        x, history = next_x, moved.history
    return x
