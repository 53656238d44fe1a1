"""How a plan begins and moves on: value in, value out.

A sampler is a callable PlanRequest -> PlanOutcome. `descend` is the one loop that all of them share: it takes a plan
down explicit pairs of levels with a solver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ...spec import ConfigError, Horizon, IntArray
from ..denoisers.base import LevelTable, take_rows
from ..diffusion.contract import Denoiser
from ..diffusion.noise import RowNoise
from ..diffusion.schedule import Schedule
from ..diffusion.solvers import Solver


@dataclass(frozen=True)
class PlanRequest:
    """What a sampler needs to make plans for R rows."""

    denoiser: Denoiser
    schedule: Schedule
    context: Any
    horizon: Horizon
    width: int
    noise: RowNoise
    previous: Tensor | None = None  # (R, T, A) the plan each row had before; NaN where it had none
    previous_level: Tensor | None = None  # (R, T) the noise that is left in it; None: none
    executed: IntArray | None = (
        None  # (R,) steps of that plan that lie behind, from its newest observation on
    )
    frozen: IntArray | None = (
        None  # (R,) further steps of it that will be executed while this plan is made
    )
    discrete: Tensor | None = None  # (A,) which numbers of an action take two values only
    discrete_size: float = 1.0  # how far from 0 both values lie
    unconditional: Any = None  # the context without the instruction, where the sampler wants it
    anchor: Tensor | None = (
        None  # (R, T, A) the plan that the checkpoint's anchors hold for each row; None: it has none
    )

    @property
    def rows(self) -> int:
        """R."""
        return len(self.noise.seeds)

    @property
    def frozen_steps(self) -> Tensor:
        """(R,) steps sure to be executed meanwhile; none where nobody said."""
        if self.frozen is None:
            return torch.zeros(self.rows, dtype=torch.long, device=self.noise.device)
        return torch.as_tensor(self.frozen, device=self.noise.device)

    def draw(self) -> Tensor:
        """The rows' next standard normal noise for a whole plan, (R, T, A)."""
        return self.noise.normal(self.horizon.planned, self.width)

    def take(self, rows: IntArray) -> PlanRequest:
        """The request of some rows alone, `rows` (R',) counting within this one."""

        def of(values: Any) -> Any:
            if values is None:
                return None
            return values[rows]

        chosen = torch.as_tensor(rows, device=self.noise.device)
        return replace(
            self,
            context=take_rows(self.context, chosen),
            noise=self.noise.take(rows),
            previous=of(self.previous),
            previous_level=of(self.previous_level),
            executed=of(self.executed),
            frozen=of(self.frozen),
            unconditional=None
            if self.unconditional is None
            else take_rows(self.unconditional, chosen),
            anchor=of(self.anchor),
        )

    def branches(self, copies: int, first: int = 0) -> PlanRequest:
        """Every row `copies` times in a row, each copy with noise of its own: the row's streams `first`, `first` + 1, ..."""
        rows = np.repeat(np.arange(self.rows), copies)
        return replace(self.take(rows), noise=self.noise.branched(copies, first))

    def shift_plan(self) -> ShiftedPlan:
        """The previous plan and its levels, seen from the newest observation; only for rows that have one."""
        assert self.previous is not None and self.executed is not None
        level = torch.zeros(self.previous.shape[:2], device=self.previous.device)
        if self.previous_level is None:
            level = level
        else:
            level = self.previous_level
        steps = torch.as_tensor(self.executed, device=self.previous.device)
        return ShiftedPlan(
            shift(self.previous, steps), shift(level, steps), self.previous.shape[1] - steps
        )


@dataclass(frozen=True)
class ShiftedPlan:
    """A plan moved on: its first steps are those still to come, and the last one is repeated behind its end."""

    plan: Tensor  # (R, T, A)
    level: Tensor  # (R, T)
    known: Tensor  # (R,) how many steps the plan really holds; what follows is repetition


@dataclass(frozen=True)
class PlanOutcome:
    """The plan to execute from, normalised, and what it cost."""

    plan: Tensor  # (R, T, A)
    nfe: Tensor  # (R,) denoiser evaluations
    level: Tensor | None = (
        None  # (R, T) noise that is left in the plan, none in the chunk to execute; None: all clean
    )


Sampler = Callable[[PlanRequest], PlanOutcome]


@dataclass(frozen=True)
class Capabilities:
    """What a checkpoint was trained for: the regimes of levels (None: not known) and the horizon of its staircase."""

    regimes: tuple[str, ...] | None
    horizon: Horizon
    relative: bool = False  # its actions are relative to what is observed when a plan is made
    anchored: bool = False  # it was given anchors
    unconditional: bool = False  # it was trained to do without the instruction, too
    start: float | None = (
        None  # the least start of warm starts that calibration measured; None: it was not measured
    )


@runtime_checkable
class Requirements(Protocol):
    """A sampler that not every checkpoint can do."""

    def check(self, capabilities: Capabilities, horizon: Horizon) -> None:
        """Raise ConfigError where a checkpoint trained so cannot run this way with `horizon`."""
        ...


@runtime_checkable
class Settling(Protocol):
    """A sampler that leaves open what depends on the checkpoint."""

    def settled(self, capabilities: Capabilities) -> Sampler:
        """This way with all that it leaves open decided for a checkpoint trained so; itself it stays as it is."""
        ...


@runtime_checkable
class NeedsUnconditional(Protocol):
    """A sampler that is led away from plans made without the instruction."""

    needs_unconditional: bool


def want_regime(capabilities: Capabilities, regime: str, sampler: str) -> None:
    """Raise ConfigError unless the checkpoint was trained with the levels that a sampler meets."""
    if capabilities.regimes is not None and regime not in capabilities.regimes:
        if _possible(capabilities.regimes) is None:
            instead = ""
        else:
            instead = f"take {_possible(capabilities.regimes)}, or "
        raise ConfigError(
            f"{sampler} meets noise levels that this checkpoint was not trained for ({regime}; it knows "
            f"{', '.join(capabilities.regimes)}): {instead}train with training.regimes.{regime} above 0"
        )


def _possible(regimes: Sequence[str]) -> str | None:
    """What a checkpoint trained with these regimes can always do."""
    if "constant" in regimes:
        return "inference=ddim or a flat inference=rti"
    if "staircase" in regimes:
        return "inference=sdp inference.primer=zero"
    return None


def shift(values: Tensor, steps: Tensor) -> Tensor:
    """Drop the first `steps` (R,) of each row of (R, T, ...) and repeat its last one at the end."""
    length = values.shape[1]
    index = (torch.arange(length, device=values.device) + steps.unsqueeze(1)).clamp(
        0, length - 1
    )  # (R, T)
    return torch.take_along_dim(values, index.reshape(*index.shape, *[1] * (values.dim() - 2)), 1)


def has_plan(request: PlanRequest) -> np.ndarray:
    """(R,) bool: the rows that have a plan to go on from."""
    if request.previous is None:
        return np.zeros(request.rows, bool)
    return torch.isfinite(request.previous).flatten(1).all(1).cpu().numpy()


def cold_or_warm(request: PlanRequest, cold: Sampler, warm: Sampler) -> PlanOutcome:
    """`cold` for the rows that have no plan yet and `warm` for the others, put together in the rows' order."""
    parts = [
        (np.flatnonzero(mask), sampler)
        for mask, sampler in ((~has_plan(request), cold), (has_plan(request), warm))
    ]
    return merge_outcomes(
        [(rows, sampler(request.take(rows))) for rows, sampler in parts if len(rows)], request
    )


def merge_outcomes(
    parts: Sequence[tuple[IntArray, PlanOutcome]], request: PlanRequest
) -> PlanOutcome:
    """One outcome from those of some rows each; where several parts name a row, the last one's plan holds and all costs add."""
    plan = torch.zeros(
        request.rows, request.horizon.planned, request.width, device=request.noise.device
    )
    level, nfe = (
        plan.new_zeros(plan.shape[:2]),
        torch.zeros(request.rows, dtype=torch.long, device=plan.device),
    )
    for rows, outcome in parts:
        chosen = torch.as_tensor(rows, device=plan.device)
        plan[chosen], nfe[chosen] = outcome.plan, nfe[chosen] + outcome.nfe
        if outcome.level is None:
            level[chosen] = 0.0
        else:
            level[chosen] = outcome.level
    return PlanOutcome(plan, nfe, level)


class LevelTableCache:
    """Keeps the newest table of prepared levels while network, weights and levels stay the same."""

    def __init__(self) -> None:
        self._kept: tuple[Tensor, LevelTable] | None = None

    def of(self, request: PlanRequest, levels: Tensor) -> LevelTable:
        """The table of all but the last of levels (S + 1,) or (S + 1, T)."""
        network = request.denoiser.network
        if self._kept is not None:
            known, table = self._kept
            same = (
                known.shape == levels.shape
                and known.device == levels.device
                and bool((known == levels).all())
            )
            if same and table.fits(network, request.horizon.planned):
                return table
        table = network.prepare(levels[:-1], request.horizon.planned)
        self._kept = levels, table
        return table


class Stepped(Protocol):
    """A bound denoiser, guided or not, that is told which step of its grid it is at."""

    @property
    def step(self) -> int | None:
        """Which step of the grid it is at."""
        ...

    @step.setter
    def step(self, number: int | None) -> None: ...

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """Estimate of the clean plan."""
        ...


def run_sampling_loop(
    denoise: Stepped,
    solver: Solver,
    x: Tensor,
    levels: Sequence[Tensor],
    noise: Callable[[], Tensor],
) -> Tensor:
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


def check_finite(plan: Tensor) -> None:
    """Raise ConfigError when a plan holds a number that is not finite: nothing of it may reach a robot."""
    if not bool(torch.isfinite(plan).all()):
        raise ConfigError(
            "the policy's plan is not finite: the observation or the weights hold NaN or infinity"
        )
