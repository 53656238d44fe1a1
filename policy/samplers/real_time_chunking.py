"""Real-time chunking: a plan that continues what is executed while it is made (RTC).

2506.07339; trained prefixes: 2512.05964.
"""

from __future__ import annotations

from typing import Literal, Self, get_args

import torch

from ...spec import ConfigError, Horizon
from ..diffusion.contract import BoundDenoiser
from ..diffusion.guidance import Fade, Jacobian, PrefixGuidance, prefix_weights
from ..diffusion.schedule import check_steps
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
from .fresh import Fresh

Mode = Literal["full", "identity", "trained"]


class RealTimeChunking(Sampler):
    """Sample from noise, held to the previous plan: frozen steps are given, later ones wished for.

    `mode` full and identity guide any checkpoint, see PrefixGuidance: full as the paper does, which
    holds the frozen steps only as far as the network's estimate moves with its input, identity
    nearer to them; `hotstart bench prefix_hold` measures it. `trained` puts the frozen steps into
    the plan as clean ones, which a checkpoint trained with clean prefixes knows, at no cost. What
    is frozen is the previous plan's own steps, never zeros: a row without one samples freely.
    """

    def __init__(
        self,
        steps: int = 10,
        mode: Mode = "full",
        beta: float = 5.0,
        fade: Fade = "exp",
        solver: Solver | None = None,
        clip: float | None = 1.0,
    ) -> None:
        """Build it with these options.

        steps: denoiser evaluations of a plan
        mode: full (guided as in the paper), identity (cheaper, holds nearer) or trained (clean
            prefix)
        beta: largest weight of the guidance
        fade: how the weight falls behind the frozen prefix: exp, linear or hard
        solver: step from one noise level to the next
        clip: estimates are clipped to this in each number [normalised units]; none: never
        """
        for name, value, choices in (
            ("mode", mode, get_args(Mode)),
            ("fade", fade, get_args(Fade)),
        ):
            if value not in choices:
                raise ConfigError(
                    f"inference.{name} is {value!r}; choose one of {', '.join(choices)}"
                )
        if beta < 0:
            raise ConfigError(f"inference.beta is {beta}; 0 or more is wanted")
        self.steps = check_steps(steps)
        self.mode: Mode = mode
        self.beta = beta
        self.fade: Fade = fade
        self.solver = solver or DDIM()
        self.clip = clip
        self.fresh = Fresh(steps, self.solver, clip)

    def adapt_to(self, capabilities: Capabilities, horizon: Horizon) -> Self:
        """Guidance and first plans meet one level; a given prefix must have been trained."""
        want_regime(capabilities, "constant", "inference=rtc")
        if self.mode == "trained":
            want_regime(capabilities, "prefix", "inference=rtc with inference.mode=trained")
        if self.mode == "trained" and horizon.delay > capabilities.horizon.executed:
            raise ConfigError(
                f"a delay of {horizon.delay} ticks freezes more steps than the "
                f"{capabilities.horizon.executed} of a chunk, and longer prefixes were not "
                "trained: use inference.mode=full"
            )
        return self

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        if self.mode == "trained":
            return cold_or_warm(request, self.fresh, self._continue_prefix)
        return cold_or_warm(request, self.fresh, self._guide)

    def _guide(self, request: PlanRequest) -> PlanOutcome:
        """Plans that are pulled towards the previous one."""
        horizon = request.model.horizon
        before, frozen = request.shift_plan(), _frozen(request)
        weight = prefix_weights(horizon.planned, horizon.past, frozen, before.known, self.fade)
        jacobian: Jacobian = "full"
        if self.mode == "identity":
            jacobian = "identity"

        def guide(denoise: BoundDenoiser) -> PrefixGuidance:
            return PrefixGuidance(denoise, before.plan, weight, self.beta, jacobian, self.clip)

        x, levels = request.draw_start(), request.grid(self.steps)
        return run_sampler(request, x, levels, self.solver, None, guide)

    def _continue_prefix(self, request: PlanRequest) -> PlanOutcome:
        """Plans whose frozen steps are those of the previous one, clean from the start."""
        horizon = request.model.horizon
        before, noise = request.shift_plan(), request.draw()
        index = torch.arange(horizon.planned, device=noise.device)
        length = torch.minimum(horizon.past + _frozen(request), before.known)
        given = index < length.unsqueeze(1)  # (R, T)
        x = torch.where(given.unsqueeze(-1), before.plan, noise)
        levels = request.grid(self.steps).unsqueeze(1)  # (S + 1, 1, T)
        levels = torch.where(given, 0.0, levels)  # (S + 1, R, T)
        return run_sampler(request, x, levels, self.solver, self.clip)


def _frozen(request: PlanRequest) -> torch.Tensor:
    """(R,) steps of the previous plan that are executed while the new one is made."""
    assert request.previous is not None
    return request.previous.frozen
