"""SDP (2406.04806): a plan of ever noisier blocks, moved down one stair at every call."""

from __future__ import annotations

from typing import Literal, Self, get_args

import torch
from torch import Tensor

from ...spec import ConfigError, Horizon
from ..diffusion.objective import staircase_times
from ..diffusion.schedule import check_steps, raise_noise
from ..diffusion.solvers import DDIM, Solver
from .base import (
    Capabilities,
    PlanOutcome,
    PlanRequest,
    Sampler,
    cold_or_warm,
    run_sampler,
    want_regime,
)
from .fresh import Fresh, check_start_noise

Primer = Literal["denoise", "zero", "constant"]


class Streaming(Sampler):
    """`steps` evaluations a call take every block down one stair; the first one becomes clean.

    A block needs steps x blocks evaluations in all and gets them over as many calls as there are
    blocks, so the number of levels is a multiple of the number of blocks by construction. Between
    two calls the plan is shifted by what was executed. Steps that are then cleaner than their stair
    (those already executed, the rest of a chunk that was cut short, the tail beyond the last whole
    block) get the noise that their label says. So do steps that will be executed while the plan is
    made: kept clean, with the staircase behind them, they made motion smoother and success rarer
    (docs/notebook/2026-11-25-charged-latency.md).

    A row's first plan is primed: `denoise` samples it whole in `cold` steps and adds noise to the
    later blocks; `zero` puts noise on a plan of zeros, `constant` on the first action that one
    evaluation at pure noise expects, repeated.
    """

    def __init__(
        self,
        steps: int = 4,
        cold: int = 10,
        primer: Primer = "denoise",
        solver: Solver | None = None,
        clip: float | None = 1.0,
        start_noise: float = 1.0,
    ) -> None:
        """Build it with these options.

        steps: denoiser evaluations of a call, which take every block down one stair
        cold: denoiser evaluations of a row's first plan
        primer: how a first plan is made: denoise, zero or constant
        solver: step from one noise level to the next
        clip: estimates are clipped to this in each number [normalised units]; none: never
        start_noise: factor of the noise that puts plans on their stairs, and of a first plan's
        """
        if primer not in get_args(Primer):
            raise ConfigError(
                f"inference.primer is {primer!r}; choose one of {', '.join(get_args(Primer))}"
            )
        self.steps = check_steps(steps)
        self.cold = check_steps(cold, "cold")
        self.primer = primer
        self.solver = solver or DDIM()
        self.clip = clip
        self.start_noise = check_start_noise(start_noise)
        self.fresh = Fresh(cold, DDIM(), clip, start_noise)

    def adapt_to(self, capabilities: Capabilities, horizon: Horizon) -> Self:
        """The staircase met must be the one trained: its regime, and blocks of the same length."""
        want_regime(capabilities, "staircase", "inference=sdp")
        if self.primer != "zero":  # both others evaluate plans of one level
            name = f"inference=sdp with inference.primer={self.primer}"
            want_regime(capabilities, "constant", name)
        horizon.check_streaming()
        if capabilities.relative:
            raise ConfigError(
                "inference=sdp keeps noisy steps from call to call, which cannot be taken over to "
                "another pose of the hand: train with actions=rotation_6d instead of "
                "actions=relative, or use inference=rti"
            )
        trained = capabilities.horizon
        if (horizon.executed, horizon.past) != (trained.executed, trained.past):
            raise ConfigError(
                f"inference=sdp moves on by blocks of {trained.executed} steps, as the checkpoint "
                f"was trained; executed={horizon.executed} makes another staircase: leave it out, "
                f"or train with horizon.executed={horizon.executed}"
            )
        return self

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row, clean in the chunk to execute."""
        if self.primer == "denoise":
            return cold_or_warm(request, self._denoise_first_plan, self._roll)
        return cold_or_warm(request, self._prime, self._roll)

    def _denoise_first_plan(self, request: PlanRequest) -> PlanOutcome:
        """A whole plan, then noise on the later blocks."""
        outcome = self.fresh(request)
        level = self._levels(request)[-1].expand(outcome.plan.shape[:2])
        x = raise_noise(outcome.plan, self._draw(request), torch.zeros_like(level), level)
        return PlanOutcome(x, outcome.nfe, level)

    def _prime(self, request: PlanRequest) -> PlanOutcome:
        """A plan of zeros, or of one action repeated, put on the stairs; then one call."""
        noise = self._draw(request)
        clean = torch.zeros_like(noise)
        if self.primer == "zero":
            return self._descend(request, clean, torch.zeros_like(clean[..., 0]), noise)
        denoise = request.model.bind(None, self.clip)
        expected = denoise(noise, torch.ones_like(noise[..., 0]))
        clean = expected[:, request.model.horizon.past, None].expand_as(noise)
        outcome = self._descend(request, clean, torch.zeros_like(clean[..., 0]), noise)
        return PlanOutcome(outcome.plan, outcome.nfe + denoise.nfe, outcome.level)

    def _roll(self, request: PlanRequest) -> PlanOutcome:
        """The shifted plan, every step back on its stair, taken down one."""
        before = request.shift_plan()
        return self._descend(request, before.plan, before.level, self._draw(request))

    def _draw(self, request: PlanRequest) -> Tensor:
        """Noise (R, T, A) that is added to plans."""
        return self.start_noise * request.draw()

    def _descend(
        self, request: PlanRequest, plan: Tensor, level: Tensor, noise: Tensor
    ) -> PlanOutcome:
        """A plan (R, T, A) with noise of `level` (R, T), put on its stairs and taken down one."""
        levels = self._levels(request)
        x = raise_noise(plan, noise, level, levels[0].expand(level.shape))
        outcome = run_sampler(request, x, levels, self.solver, self.clip)
        return PlanOutcome(outcome.plan, outcome.nfe, levels[-1].expand(level.shape))

    def _levels(self, request: PlanRequest) -> Tensor:
        """Levels (S + 1, T) from the stairs down to where the first block is clean."""
        progress = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
        times = staircase_times(request.model.horizon, progress)
        return request.model.schedule.level(times).float().to(request.noise.device)
