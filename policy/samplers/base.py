"""What a sampler is given and gives back, and the parts that samplers share.

A sampler makes plans for R rows: PlanRequest -> PlanOutcome. It asks the model through `PlanModel`
and moves plans with `run_sampler`. Letters of the shapes: R rows, S solver steps, T action steps
of a plan, A numbers of an action.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from ...spec import BoolArray, ConfigError, Horizon, IntArray
from ..diffusion.contract import BoundDenoiser, GridDenoiser
from ..diffusion.noise import RowNoise
from ..diffusion.schedule import Schedule, grid
from ..diffusion.solvers import Solver
from .loop import Transition, sample


class PlanModel(Protocol):
    """A model that has seen the observations of R rows: all that a sampler may ask of it."""

    @property
    def horizon(self) -> Horizon:
        """T, and how much of a plan is executed."""
        ...

    @property
    def width(self) -> int:
        """A."""
        ...

    @property
    def schedule(self) -> Schedule:
        """The map between schedule time and noise level."""
        ...

    @property
    def discrete(self) -> Tensor:
        """(A,) bool: the numbers of an action that take two values only."""
        ...

    @property
    def discrete_size(self) -> float:
        """The two values are -discrete_size and discrete_size, in normalised units."""
        ...

    def bind(self, levels: Tensor | None, clip: float | None) -> BoundDenoiser:
        """The denoiser of these rows, clipped to [-clip, clip].

        levels (S + 1, T) are a grid that all rows share: what depends on levels alone is then
        prepared, once for all calls. (S + 1, R, T) or None: nothing is prepared.
        """
        ...

    def unconditional(self) -> PlanModel:
        """The same rows, encoded without the instruction."""
        ...

    def anchor(self) -> Tensor:
        """(R, T, A): the plan that the checkpoint's anchors hold for each row."""
        ...

    def steer_noise(self, noise: Tensor) -> Tensor:
        """Starting noise (R, T, A) by the checkpoint's noise policy; without one as it is."""
        ...

    def score(self, plan: Tensor) -> Tensor:
        """What the checkpoint's values say of normalised plans (R, T, A) at the least, (R,)."""
        ...

    def take(self, rows: Tensor) -> PlanModel:
        """The model of some rows alone; rows (R',) counts within these and may name a row twice."""
        ...


@dataclass(frozen=True)
class PreviousPlan:
    """The plan that each row had before, and how much of it has been and will be executed."""

    plan: Tensor  # (R, T, A) normalised; NaN where a row had none
    level: Tensor  # (R, T) noise that is left in it
    executed: Tensor  # (R,) its steps that lie behind, from its newest observation on
    frozen: Tensor  # (R,) its further steps that are executed while the new plan is made

    def take(self, rows: Tensor) -> PreviousPlan:
        """The plans of some rows (R',)."""
        return PreviousPlan(
            self.plan[rows], self.level[rows], self.executed[rows], self.frozen[rows]
        )


@dataclass(frozen=True)
class ShiftedPlan:
    """A plan shifted to the newest observation: the last action is repeated behind its end."""

    plan: Tensor  # (R, T, A)
    level: Tensor  # (R, T)
    known: Tensor  # (R,) how many steps the plan really holds


@dataclass(frozen=True)
class PlanRequest:
    """Plans are wanted for R rows."""

    model: PlanModel
    noise: RowNoise
    previous: PreviousPlan | None = None  # None: no row had a plan
    trace: list[Transition] | None = None
    """Gets the transitions of every sampling loop that the call runs, in order."""

    @property
    def rows(self) -> int:
        """R."""
        return len(self.noise.seeds)

    def draw(self) -> Tensor:
        """The rows' next standard normal noise for a whole plan, (R, T, A)."""
        return self.noise.normal(self.model.horizon.planned, self.model.width)

    def draw_start(self, share: float = 1.0) -> Tensor:
        """The noise (R, T, A) that plans begin with where nothing else is known of them.

        share: factor of its standard deviation; at 0 the mean of a noise policy, or zeros
        """
        return self.model.steer_noise(share * self.draw())

    def grid(self, steps: int, start: float = 1.0) -> Tensor:
        """Levels (S + 1, T) from schedule time `start` down to clean, constant along T."""
        levels = grid(self.model.schedule, steps, start).to(self.noise.device)
        return levels.unsqueeze(1).expand(-1, self.model.horizon.planned)

    def has_plan(self) -> BoolArray:
        """(R,): the rows that have a plan to continue from."""
        if self.previous is None:
            return np.zeros(self.rows, bool)
        return torch.isfinite(self.previous.plan).flatten(1).all(1).cpu().numpy()

    def shift_plan(self) -> ShiftedPlan:
        """The previous plan, seen from the newest observation; all rows must have one."""
        before = self.previous
        assert before is not None
        plan, level = shift(before.plan, before.executed), shift(before.level, before.executed)
        return ShiftedPlan(plan, level, plan.shape[1] - before.executed)

    def take(self, rows: IntArray) -> PlanRequest:
        """The request of some rows (R',) alone, which count within this one."""
        chosen = torch.as_tensor(rows, device=self.noise.device)
        previous = self.previous
        if previous is not None:
            previous = previous.take(chosen)
        return replace(
            self, model=self.model.take(chosen), noise=self.noise.take(rows), previous=previous
        )

    def branches(self, copies: int, first: int = 0) -> PlanRequest:
        """Every row `copies` times in a row, each copy with noise of its own.

        The copies draw from the row's streams `first`, `first` + 1, ...
        """
        rows = np.repeat(np.arange(self.rows), copies)
        return replace(self.take(rows), noise=self.noise.branch(copies, first))


@dataclass(frozen=True)
class PlanOutcome:
    """The plans to execute from, and what they cost."""

    plan: Tensor  # (R, T, A) normalised
    nfe: Tensor  # (R,) denoiser evaluations
    level: Tensor | None = None
    """(R, T) noise that is left in the plan, none in the chunk to execute; None: all is clean."""


@dataclass(frozen=True)
class Capabilities:
    """What a checkpoint was trained and measured for."""

    regimes: tuple[str, ...] | None  # regimes of noise levels; None: unknown
    horizon: Horizon  # of its training: the staircase's blocks are `executed` long
    relative: bool = False  # actions are relative to what is observed when a plan is made
    anchored: bool = False  # it has anchors
    unconditional: bool = False  # it was trained without the instruction, too
    start: float | None = None  # least start of warm starts that calibration measured
    valued: bool = False  # it says what a chunk is worth


class Sampler(ABC):
    """An inference method: how a plan is initialised and updated."""

    @abstractmethod
    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""

    def adapt_to(self, capabilities: Capabilities, horizon: Horizon) -> Self:
        """This sampler for such a checkpoint: a copy where a setting is left to the checkpoint.

        Raises ConfigError where the checkpoint cannot be run so with `horizon`. A policy calls it.
        """
        return self


def want_regime(capabilities: Capabilities, regime: str, sampler: str) -> None:
    """Raise ConfigError unless the checkpoint was trained with the levels of a `regime`."""
    trained = capabilities.regimes
    if trained is None or regime in trained:
        return
    if "constant" in trained:
        instead = "take inference=ddim or a flat inference=rti, or "
    elif "staircase" in trained:
        instead = "take inference=sdp inference.primer=zero, or "
    else:
        instead = ""
    raise ConfigError(
        f"{sampler} meets noise levels that this checkpoint was not trained for ({regime}; it "
        f"knows {', '.join(trained)}): {instead}train with training.regimes.{regime} above 0"
    )


def want_values(capabilities: Capabilities, sampler: str) -> None:
    """Raise ConfigError unless the checkpoint says what a chunk is worth."""
    if not capabilities.valued:
        raise ConfigError(
            f"{sampler} ranks plans by learned values, and this checkpoint has none: "
            "hotstart finetune CHECKPOINT method=values gives it some"
        )


def shift(values: Tensor, steps: Tensor) -> Tensor:
    """Drop the first `steps` (R,) of each row of (R, T, ...) and repeat its last one at the end."""
    length = values.shape[1]
    index = torch.arange(length, device=values.device) + steps.unsqueeze(1)  # (R, T)
    index = index.clamp(0, length - 1)
    ones = [1] * (values.dim() - 2)
    return torch.take_along_dim(values, index.reshape(*index.shape, *ones), 1)


def run_sampler(
    request: PlanRequest,
    x: Tensor,
    levels: Tensor,
    solver: Solver,
    clip: float | None,
    guidance: Callable[[BoundDenoiser], GridDenoiser] | None = None,
) -> PlanOutcome:
    """Denoise the plans x (R, T, A) along `levels`, (S + 1, T) for all rows or (S + 1, R, T).

    Binds the model, draws the noise and runs the loop. `guidance` wraps the bound denoiser. A
    stochastic solver draws noise at every step, used or not: otherwise the levels of one row would
    decide which draws another row gets.
    """
    bound = request.model.bind(levels, clip)
    if guidance is None:
        denoise = bound
    else:
        denoise = guidance(bound)
    if levels.dim() == 2:
        levels = levels.unsqueeze(1).expand(-1, len(x), -1)
    noises = None
    if solver.stochastic:
        noises = torch.stack([request.draw() for _ in range(len(levels) - 1)])
    plan = sample(denoise, solver, x, noises, levels, request.trace)
    return PlanOutcome(plan, bound.nfe)


def take_best(plans: Tensor, score: Tensor) -> Tensor:
    """Of plans (R, M, T, A) those with the highest score (R, M), the first of equals; (R, T, A)."""
    best = score.argmax(1)
    return plans[torch.arange(len(plans), device=plans.device), best]


def sum_copies(nfe: Tensor, copies: int) -> Tensor:
    """What every row (R,) cost together with its `copies`, from what each of them cost."""
    return nfe.unflatten(0, (-1, copies)).sum(1)


Part = Callable[[PlanRequest], PlanOutcome]


def cold_or_warm(request: PlanRequest, cold: Part, warm: Part) -> PlanOutcome:
    """`cold` for the rows that have no plan yet, `warm` for the others, in the rows' order.

    The rows are split here, outside of the loop: a row that is warm-started in 2 evaluations would
    otherwise wait for the 10 of another one's first plan.
    """
    has_plan = request.has_plan()
    together = replace(request, noise=request.noise.restart())
    if has_plan.all():
        return warm(together)
    if not has_plan.any():
        return cold(together)
    old, new = np.flatnonzero(has_plan), np.flatnonzero(~has_plan)
    parts = [(new, cold(request.take(new))), (old, warm(request.take(old)))]
    return merge_outcomes(parts, request)


def merge_outcomes(
    parts: Sequence[tuple[IntArray, PlanOutcome]], request: PlanRequest
) -> PlanOutcome:
    """One outcome from those of some rows each.

    Where several parts name a row, the last one's plan holds and all costs add up.
    """
    device = request.noise.device
    plan = torch.zeros(
        request.rows, request.model.horizon.planned, request.model.width, device=device
    )
    level = torch.zeros(plan.shape[:2], device=device)
    nfe = torch.zeros(request.rows, dtype=torch.long, device=device)
    for rows, outcome in parts:
        chosen = torch.as_tensor(rows, device=device)
        plan[chosen] = outcome.plan
        nfe[chosen] += outcome.nfe
        if outcome.level is None:
            level[chosen] = 0.0
        else:
            level[chosen] = outcome.level
    return PlanOutcome(plan, nfe, level)


def check_finite(plan: Tensor) -> None:
    """Raise ConfigError where a plan is not finite: it must not reach a robot."""
    if not bool(torch.isfinite(plan).all()):
        raise ConfigError(
            "the policy's plan is not finite: the observation or the weights hold NaN or infinity"
        )
