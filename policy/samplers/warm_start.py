"""RTI: begin from the plan of the call before, moved on by what was executed (RTI-DP, 2508.05396).

A small error of the guess shrinks with every step; how fast is known in closed form, which chooses where to begin: see
`gain` and `choose_start`.
"""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor

from ...spec import ConfigError, Horizon
from ..diffusion.contract import BoundDenoiser
from ..diffusion.schedule import Schedule, add_noise, alpha_sigma, grid
from ..diffusion.solvers import DDIM, Solver
from .base import (
    Capabilities,
    LevelTableCache,
    PlanOutcome,
    PlanRequest,
    cold_or_warm,
    merge_outcomes,
    run_sampling_loop,
    want_regime,
)
from .fresh import Fresh, checked_start_noise

MIN_START = 0.3
"""Where warm starts begin at least, unless it was measured for a checkpoint."""


class WarmStart:
    """Real-time iteration: `steps` evaluations a call from schedule time `start`; a row's first plan is sampled fresh.

    The guess is the previous plan, shifted by the steps that lie behind. With `renoise` it gets the noise that belongs to
    the start level; without, it is taken as it is, as in the paper (section III). A `start` left open is `min_start`, and
    that left open is what was measured for the checkpoint (`policy.fitting.calibration`), else LEAST_START; but where numbers that take
    two values begin neutral it is at least the level at which the neutral value lies one standard deviation from either:
    nearer to clean the network has never seen it.

    A plan's last steps are known worst: behind the end of the previous plan its last action is repeated, and at a low level
    that repetition would live on until it is executed. With `ramp` the start rises behind the chunk to execute, to pure
    noise where the previous plan ended, which a checkpoint that was trained with staircases knows. Left open, it rises where
    the checkpoint was trained so; `settled` decides this and the least start, and a policy calls it. Numbers that take two
    values only begin at the neutral value 0: at a clean guess they could not flip any more. A row whose first estimate lies
    further than `fallback` (root mean square over the chunk, in normalised units) from its guess is sampled afresh. `start_noise`
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
        if steps < 1 or cold < 1:
            raise ConfigError(
                f"inference.steps is {steps} and inference.cold {cold}; at least one step is needed"
            )
        for name, value in (("start", start), ("min_start", min_start)):
            if value is not None and not 0 < value <= 1:
                raise ConfigError(
                    f"inference.{name} is {value}; it is a schedule time above 0 and at most 1"
                )
        if fallback is not None and fallback <= 0:
            raise ConfigError(
                f"inference.fallback is {fallback}; give a distance above 0, or null for no fall back"
            )
        self.steps, self.start, self.min_start, self.clip = steps, start, min_start, clip
        self.solver = solver or DDIM(1.0)
        self.renoise, self.neutral, self.fallback, self.ramp = renoise, neutral, fallback, ramp
        if self.ramp and not renoise:
            raise ConfigError(
                "inference.ramp=true asks for noise that renoise=false leaves out: choose one of them"
            )
        if start_noise != 1 and not renoise:
            raise ConfigError(
                f"inference.start_noise={start_noise} scales noise that renoise=false leaves out: choose one"
            )
        self.start_noise = checked_start_noise(start_noise)
        self.fresh = Fresh(cold, DDIM(), clip)
        self._level_tables = LevelTableCache()

    def settled(self, capabilities: Capabilities) -> Self:
        """A copy that rises, and begins at least, as the checkpoint says where that is left open."""
        sampler = copy.copy(self)
        sampler._level_tables = LevelTableCache()
        if self.ramp is None:
            sampler.ramp = self.renoise and "staircase" in (capabilities.regimes or ())
        if self.min_start is None:
            if capabilities.start is None:
                sampler.min_start = MIN_START
            else:
                sampler.min_start = capabilities.start
        return sampler

    def check(self, capabilities: Capabilities, horizon: Horizon) -> None:
        """Warm starts meet plans of one level, or of rising ones."""
        want_regime(capabilities, "constant", "inference=rti")
        if self.ramp:
            want_regime(capabilities, "staircase", "inference=rti with inference.ramp=true")

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        return cold_or_warm(request, self.fresh, self._warm)

    def _warm(self, request: PlanRequest) -> PlanOutcome:
        guess = self.guess(request)
        levels = self._levels(request).to(guess.device)  # (S + 1, R, T)
        alike = bool((levels == levels[:, :1]).all())
        if alike:
            table = self._level_tables.of(request, levels[:, 0])
        else:
            table = None
        denoise = FirstEstimate(request.denoiser.bind(request.context, self.clip, table))
        pairs = list(levels)
        if self.renoise:
            x = add_noise(guess, self.start_noise * request.draw(), pairs[0])
        else:
            x = guess
        outcome = PlanOutcome(
            run_sampling_loop(denoise, self.solver, x, pairs, request.draw), denoise.nfe
        )
        if self.fallback is None:
            return outcome
        return self._checked(request, outcome, guess, denoise)

    def _levels(self, request: PlanRequest) -> Tensor:
        """Levels (S + 1, R, T) of every step from its own start down to clean."""
        share = torch.zeros(request.rows, request.horizon.planned, dtype=torch.float64)
        if self.ramp:
            share = behind_chunk(request.horizon, request.shift_plan().known.cpu()).double()
        left, start = (
            torch.linspace(1, 0, self.steps + 1, dtype=torch.float64),
            self.begins(request),
        )
        return request.schedule.level(
            left.reshape(-1, 1, 1) * (start + (1 - start) * share)
        ).float()

    def begins(self, request: PlanRequest) -> float:
        """The schedule time that the chunk begins at."""
        if self.start is not None:
            return self.start
        if self.min_start is None:
            least = MIN_START
        else:
            least = self.min_start
        if not self.neutral or request.discrete is None or not bool(request.discrete.any()):
            return least
        size = request.discrete_size  # alpha size = sigma
        return max(
            least,
            float(request.schedule.time(torch.tensor(size / (1 + size), dtype=torch.float64))),
        )

    def guess(self, request: PlanRequest) -> Tensor:
        """Where the plan begins, (R, T, A): the previous one moved on, discrete numbers neutral."""
        guess = request.shift_plan().plan
        if self.neutral and request.discrete is not None:
            guess = torch.where(request.discrete, torch.zeros_like(guess), guess)
        return guess

    def _checked(
        self, request: PlanRequest, outcome: PlanOutcome, guess: Tensor, denoise: FirstEstimate
    ) -> PlanOutcome:
        """The outcome, with fresh plans in the rows where the first estimate does not agree with the guess."""
        assert denoise.first is not None and self.fallback is not None
        far = distance(denoise.first, guess, request) > self.fallback
        lost = torch.nonzero(far).flatten().cpu().numpy()
        everybody = torch.arange(request.rows).numpy()
        if len(lost):
            again = [(lost, self.fresh(request.take(lost)))]
        else:
            again = []
        return merge_outcomes([(everybody, outcome), *again], request)


def behind_chunk(horizon: Horizon, known: Tensor) -> Tensor:
    """How far each step (R, T) lies between the end of the chunk to execute, 0, and of the `known` (R,) steps, 1."""
    end, last = horizon.past + horizon.executed + horizon.delay, known.unsqueeze(1)
    index = torch.arange(horizon.planned)
    return torch.where(
        index < last,
        ((index - end) / (last - end).clamp_min(1)).clamp(0, 1),
        (index >= end).float(),
    )


class FirstEstimate(BoundDenoiser):
    """A bound denoiser that remembers its first estimate."""

    def __init__(self, bound: BoundDenoiser) -> None:
        super().__init__(bound.denoiser, bound.context, bound.clip, bound.table)
        self.first: Tensor | None = None

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """See BoundDenoiser."""
        x0 = super().__call__(x, level)
        if self.first is None:
            self.first = x0
        else:
            self.first = self.first
        return x0


def distance(estimate: Tensor, guess: Tensor, request: PlanRequest) -> Tensor:
    """Root mean square difference (R,) over the chunk; numbers that take two values only do not count."""
    chunk = slice(request.horizon.past, request.horizon.past + request.horizon.executed)
    error = (estimate - guess)[:, chunk].square()
    if request.discrete is not None:
        error = error[..., ~request.discrete]
    return error.flatten(1).sum(1).div(max(1, error[0].numel())).sqrt()


def gain(
    schedule: Schedule, start: float, steps: int, spread: float, eta: float, renoise: bool = True
) -> float:
    """Share of the guess's error that survives a call, for a Gaussian posterior of standard deviation `spread`.

    The denoiser of N(m, s^2) is linear, D(x) = m + alpha s^2 / (alpha^2 s^2 + sigma^2) (x - alpha m), so an error of x is
    multiplied at every step by alpha' L + sqrt(sigma'^2 - std^2) (1 - alpha L) / sigma. With many steps this tends to
    s / sqrt(alpha^2 s^2 + sigma^2) for eta 0 and to alpha s^2 / (alpha^2 s^2 + sigma^2) for eta 1. With `renoise` the guess
    enters scaled by alpha.
    """
    levels = grid(schedule, steps, start).double()
    alpha, sigma = alpha_sigma(levels)
    if renoise:
        share = float(alpha[0])
    else:
        share = 1.0
    for a, s, a_to, s_to in zip(alpha[:-1], sigma[:-1], alpha[1:], sigma[1:], strict=True):
        slope = a * spread**2 / (a**2 * spread**2 + s**2)
        std = eta * (s_to / s) * torch.sqrt((1 - (a / a_to) ** 2).clamp_min(0))
        share *= float(
            a_to * slope + torch.sqrt((s_to**2 - std**2).clamp_min(0)) * (1 - a * slope) / s
        )
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
    """Least schedule time whose steady-state error, drift g / (1 - g), is below `tolerance`; 1.0 where none is.

    `drift` is how far a plan moves from one call to the next, `spread` the standard deviation within a mode, both root mean
    square per number in normalised units.
    """
    for start in torch.linspace(0.05, 1.0, 39).tolist():
        share = gain(schedule, start, steps, spread, eta, renoise)
        if share < 1 and drift * share / (1 - share) <= tolerance:
            return start
    return 1.0
