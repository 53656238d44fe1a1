"""RTI: begin from the plan of the call before, shifted by what was executed (RTI-DP, 2508.05396).

An error of the guess shrinks with every step; how fast is known in closed form, see `gain` and
`choose_start`.
"""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor

from ...spec import ConfigError, Horizon
from ..diffusion.contract import BoundDenoiser
from ..diffusion.schedule import Schedule, add_noise, alpha_sigma, check_steps, grid
from ..diffusion.solvers import DDIM, Solver
from .base import (
    Capabilities,
    PlanOutcome,
    PlanRequest,
    Sampler,
    cold_or_warm,
    merge_outcomes,
    run_sampler,
    want_regime,
)
from .fresh import Fresh, check_start_noise

MIN_START = 0.3
"""Where warm starts begin at least, unless it was measured for a checkpoint."""


class WarmStart(Sampler):
    """Real-time iteration: `steps` evaluations a call from time `start`; first plans are fresh.

    The guess is the previous plan, shifted by the steps that lie behind. With `renoise` it gets the
    noise that belongs to the start level; without, it is taken as it is, as in the paper
    (section III). A `start` left open is `min_start`, and that left open is what was measured for
    the checkpoint (`policy.fitting.calibration`), else MIN_START. But where numbers that take two
    values begin neutral, it is at least the level at which the neutral value lies one standard
    deviation from either: nearer to clean the network has never seen it.

    A plan's last steps are known worst: behind the end of the previous plan its last action is
    repeated, and at a low level that repetition would live on until it is executed. With `ramp` the
    start rises behind the chunk to execute, to pure noise where the previous plan ended, which a
    checkpoint trained with staircases knows. `adapt_to` decides `ramp` and `min_start` where they
    are left open. Numbers that take two values only begin at the neutral value 0: at a clean guess
    they could not flip any more. A row whose first estimate lies further than `fallback` (root mean
    square over the chunk, in normalised units) from its guess is sampled afresh. `start_noise`
    scales the noise that the guess gets, whose level stays what it was.
    """

    def __init__(
        self,
        steps: int = 2,
        start: float | None = None,
        cold: int = 10,
        solver: Solver | None = None,
        renoise: bool = True,
        neutral: bool = True,
        fallback: float | None = None,
        clip: float | None = 1.0,
        ramp: bool | None = None,
        min_start: float | None = None,
        start_noise: float = 1.0,
    ) -> None:
        """Build it with these options.

        steps: denoiser evaluations of a warm-started plan
        start: schedule time in (0, 1] to begin at; none: min_start, or higher for a gripper
        cold: denoiser evaluations of a row's first plan
        solver: step from one noise level to the next
        renoise: whether the shifted plan gets the noise of the start level
        neutral: whether numbers of two values begin at 0, from where they can flip
        fallback: distance of the first estimate from the shifted plan above which a row is sampled
            afresh [normalised units]; none: never
        clip: estimates are clipped to this in each number [normalised units]; none: never
        ramp: whether the start rises to pure noise behind the chunk; none: where staircases were
            trained
        min_start: least start where none is given; none: the checkpoint's calibration, else 0.3
        start_noise: factor of the noise that the shifted plan gets
        """
        _check_start(start, "start")
        _check_start(min_start, "min_start")
        if fallback is not None and fallback <= 0:
            raise ConfigError(
                f"inference.fallback is {fallback}; give a distance above 0, or null for none"
            )
        if ramp and not renoise:
            raise ConfigError(
                "inference.ramp=true asks for noise that renoise=false leaves out: choose one"
            )
        if start_noise != 1 and not renoise:
            raise ConfigError(
                f"inference.start_noise={start_noise} scales noise that renoise=false leaves out: "
                "choose one"
            )
        self.steps = check_steps(steps)
        self.start = start
        self.cold = check_steps(cold, "cold")
        self.min_start = min_start
        self.solver = solver or DDIM(1.0)
        self.renoise = renoise
        self.neutral = neutral
        self.fallback = fallback
        self.clip = clip
        self.ramp = ramp
        self.start_noise = check_start_noise(start_noise)
        self.fresh = Fresh(cold, DDIM(), clip)

    def adapt_to(self, capabilities: Capabilities, horizon: Horizon) -> Self:
        """A copy with the ramp and the least start of the checkpoint, where they are left open."""
        sampler = copy.copy(self)
        if self.ramp is None:
            sampler.ramp = self.renoise and "staircase" in (capabilities.regimes or ())
        if self.min_start is None:
            sampler.min_start = capabilities.start or MIN_START
        want_regime(capabilities, "constant", "inference=rti")
        if sampler.ramp:
            want_regime(capabilities, "staircase", "inference=rti with inference.ramp=true")
        return sampler

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        return cold_or_warm(request, self.fresh, self._warm_start)

    def _warm_start(self, request: PlanRequest) -> PlanOutcome:
        """Plans that begin from the previous ones."""
        guess = self.guess(request)
        levels = self._levels(request)  # (S + 1, R, T)
        if bool((levels == levels[:, :1]).all()):
            levels = levels[:, 0]  # (S + 1, T)
        levels = levels.to(guess.device)
        if self.renoise:
            x = add_noise(guess, self.start_noise * request.draw(), levels[0])
        else:
            x = guess
        if self.fallback is None:
            return run_sampler(request, x, levels, self.solver, self.clip)
        first = FirstEstimate()
        outcome = run_sampler(request, x, levels, self.solver, self.clip, first.watch)
        assert first.x0 is not None
        far = distance(first.x0, guess, request) > self.fallback
        lost = torch.nonzero(far).flatten().cpu().numpy()
        if len(lost) == 0:
            return outcome
        everybody = torch.arange(request.rows).numpy()
        again = self.fresh(request.take(lost))
        return merge_outcomes([(everybody, outcome), (lost, again)], request)

    def _levels(self, request: PlanRequest) -> Tensor:
        """Levels (S + 1, R, T) of every step from its own start down to clean, on the CPU."""
        horizon = request.model.horizon
        share = torch.zeros(request.rows, horizon.planned, dtype=torch.float64)
        if self.ramp:
            share = behind_chunk(horizon, request.shift_plan().known.cpu()).double()
        left = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)
        start = self.choose_start(request)
        times = left.reshape(-1, 1, 1) * (start + (1 - start) * share)
        return request.model.schedule.level(times).float()

    def choose_start(self, request: PlanRequest) -> float:
        """The schedule time that the chunk begins at."""
        if self.start is not None:
            return self.start
        least = self.min_start or MIN_START
        if not self.neutral or not bool(request.model.discrete.any()):
            return least
        size = request.model.discrete_size
        level = torch.tensor(size / (1 + size), dtype=torch.float64)  # alpha size = sigma
        return max(least, float(request.model.schedule.time(level)))

    def guess(self, request: PlanRequest) -> Tensor:
        """Where the plan begins, (R, T, A): the shifted previous one, discrete numbers neutral."""
        guess = request.shift_plan().plan
        if self.neutral:
            guess = torch.where(request.model.discrete, torch.zeros_like(guess), guess)
        return guess


def _check_start(start: float | None, name: str) -> None:
    """Raise ConfigError where a schedule time to begin at is given and lies outside (0, 1]."""
    if start is not None and not 0 < start <= 1:
        raise ConfigError(
            f"inference.{name} is {start}; it is a schedule time above 0 and at most 1"
        )


def behind_chunk(horizon: Horizon, known: Tensor) -> Tensor:
    """Place of each step (R, T) between the chunk's end, 0, and that of the `known` (R,), 1."""
    end = horizon.past + horizon.executed + horizon.delay
    last = known.unsqueeze(1)
    index = torch.arange(horizon.planned)
    share = ((index - end) / (last - end).clamp_min(1)).clamp(0, 1)
    return torch.where(index < last, share, (index >= end).float())


class FirstEstimate:
    """Guidance that changes nothing and remembers the first estimate of the clean plan."""

    x0: Tensor | None = None  # (R, T, A)

    def watch(self, denoise: BoundDenoiser) -> FirstEstimate:
        """Stand between a denoiser and the sampling loop."""
        self.denoise = denoise
        return self

    def __call__(self, x: Tensor, level: Tensor, step: int | None = None) -> Tensor:
        """See GridDenoiser."""
        x0 = self.denoise(x, level, step)
        if self.x0 is None:
            self.x0 = x0
        return x0


def distance(estimate: Tensor, guess: Tensor, request: PlanRequest) -> Tensor:
    """Root mean square difference (R,) over the chunk, without two-valued numbers."""
    horizon = request.model.horizon
    chunk = slice(horizon.past, horizon.past + horizon.executed)
    error = (estimate - guess)[:, chunk, ~request.model.discrete].square()
    return error.flatten(1).sum(1).div(max(1, error[0].numel())).sqrt()


def gain(
    schedule: Schedule, start: float, steps: int, spread: float, eta: float, renoise: bool = True
) -> float:
    """Share of the guess's error that survives a call, for a posterior N(m, spread^2).

    The denoiser of N(m, s^2) is linear, D(x) = m + L (x - alpha m) with
    L = alpha s^2 / (alpha^2 s^2 + sigma^2), so an error of x is multiplied at every step by
    alpha' L + sqrt(sigma'^2 - std^2) (1 - alpha L) / sigma. With many steps this tends to
    s / sqrt(alpha^2 s^2 + sigma^2) for eta 0 and to L at the start for eta 1. With `renoise` the
    guess enters scaled by alpha.
    """
    alpha, sigma = alpha_sigma(grid(schedule, steps, start).double())  # (S + 1,)
    a, a_to = alpha[:-1], alpha[1:]
    s, s_to = sigma[:-1], sigma[1:]
    slope = a * spread**2 / (a**2 * spread**2 + s**2)
    std = eta * (s_to / s) * torch.sqrt((1 - (a / a_to) ** 2).clamp_min(0))
    kept = a_to * slope + torch.sqrt((s_to**2 - std**2).clamp_min(0)) * (1 - a * slope) / s
    share = float(kept.prod())
    if renoise:
        return float(alpha[0]) * share
    return share


def choose_start(
    schedule: Schedule,
    steps: int,
    spread: float,
    drift: float,
    tolerance: float,
    eta: float,
    renoise: bool = True,
) -> float:
    """Least schedule time whose steady-state error, drift g / (1 - g), is below `tolerance`.

    1.0 where none is. `drift` is how far a plan moves from one call to the next, `spread` the
    standard deviation within a mode, both root mean square per number in normalised units.
    """
    for start in torch.linspace(0.05, 1.0, 39).tolist():
        share = gain(schedule, start, steps, spread, eta, renoise)
        if share < 1 and drift * share / (1 - share) <= tolerance:
            return start
    return 1.0
