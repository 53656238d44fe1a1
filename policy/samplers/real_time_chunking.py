"""Real-time chunking: a plan that continues what is executed while it is made (RTC, 2506.07339; trained: 2512.05964)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from ...spec import ConfigError, Horizon
from ..diffusion.guidance import PrefixGuidance, prefix_weights
from ..diffusion.schedule import grid
from ..diffusion.solvers import DDIM, Solver
from .base import (
    Capabilities,
    LevelTableCache,
    PlanOutcome,
    PlanRequest,
    cold_or_warm,
    run_sampling_loop,
    want_regime,
)
from .fresh import Fresh

Mode = Literal["full", "identity", "trained"]
Fade = Literal["exp", "linear", "hard"]


class RealTimeChunking:
    """Sample from noise in `steps`, held to the previous plan: its frozen steps are given, the later ones are wished for.

    `mode` full and identity guide any checkpoint, see PrefixGuidance: full as the paper does, which holds the frozen steps
    only as far as the network's estimate moves with its input, identity nearer to them; `hotstart bench prefix_hold` measures
    it. `trained` puts the frozen steps into the plan as clean ones, which a checkpoint trained with clean prefixes knows,
    at no cost. What is frozen is the previous plan's own steps, never zeros: a row without one samples freely.
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
        for name, value, words in (("mode", mode, get_args(Mode)), ("fade", fade, get_args(Fade))):
            if value not in words:
                raise ConfigError(
                    f"inference.{name} is {value!r}; choose one of {', '.join(words)}"
                )
        if steps < 1 or beta < 0:
            raise ConfigError(
                f"inference.steps is {steps} and inference.beta {beta}; at least 1 and 0 are wanted"
            )
        self.steps, self.beta, self.clip = steps, beta, clip
        self.mode: Mode = mode
        self.fade: Fade = fade
        self.solver = solver or DDIM()
        self.fresh = Fresh(steps, self.solver, clip)
        self._level_tables = LevelTableCache()

    def check(self, capabilities: Capabilities, horizon: Horizon) -> None:
        """Guidance and first plans meet plans of one level; a given prefix must have been trained."""
        want_regime(capabilities, "constant", "inference=rtc")
        if self.mode == "trained":
            want_regime(capabilities, "prefix", "inference=rtc with inference.mode=trained")
        if self.mode == "trained" and horizon.delay > capabilities.horizon.executed:
            raise ConfigError(
                f"a delay of {horizon.delay} ticks commits more steps than the {capabilities.horizon.executed} of a chunk, "
                "and longer prefixes were not trained: use inference.mode=full"
            )

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        return cold_or_warm(
            request, self.fresh, self._given if self.mode == "trained" else self._guided
        )

    def _guided(self, request: PlanRequest) -> PlanOutcome:
        before, horizon = request.shift_plan(), request.horizon
        weight = prefix_weights(
            horizon.planned, horizon.past, request.frozen_steps, before.known, self.fade
        )
        levels = self._levels(request)
        bound = request.denoiser.bind(request.context, None, self._level_tables.of(request, levels))
        if self.mode == "identity":
            jacobian = "identity"
        else:
            jacobian = "full"
        guided = PrefixGuidance(bound, before.plan, weight, self.beta, jacobian, self.clip)
        pairs = [level.expand(weight.shape) for level in levels]
        plan = run_sampling_loop(guided, self.solver, request.draw(), pairs, request.draw)
        return PlanOutcome(plan, bound.nfe)

    def _given(self, request: PlanRequest) -> PlanOutcome:
        before, horizon = request.shift_plan(), request.horizon
        index = torch.arange(horizon.planned, device=before.plan.device)
        length = torch.minimum(horizon.past + request.frozen_steps, before.known)
        given = index < length.unsqueeze(1)  # (R, T)
        denoise = request.denoiser.bind(request.context, self.clip)
        x = torch.where(given.unsqueeze(-1), before.plan, request.draw())
        pairs = [torch.where(given, 0.0, level) for level in self._levels(request)]
        plan = run_sampling_loop(denoise, self.solver, x, pairs, request.draw)
        return PlanOutcome(plan, denoise.nfe)

    def _levels(self, request: PlanRequest) -> Tensor:
        return grid(request.schedule, self.steps).to(request.noise.device)  # (S + 1,)
