"""SDP: a plan whose blocks are ever noisier, moved down one stair at every call (Streaming Diffusion Policy, 2406.04806)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from ...spec import ConfigError, Horizon
from ..diffusion.objective import staircase_times
from ..diffusion.schedule import raise_noise
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

Primer = Literal["denoise", "zero", "constant"]


class Streaming:
    """`steps` evaluations a call take every block down one stair: the first one becomes clean and is executed.

    A block needs steps x blocks evaluations in all and gets them over as many calls as there are blocks, so the number of
    levels is a multiple of the number of blocks by construction. Between two calls the plan moves on by what was executed;
    steps that are then cleaner than their stair (those already executed, the rest of a chunk that was cut short, the tail
    beyond the last whole block) get the noise that their label says. So do steps that will be executed while the plan is made:
    kept clean, with the staircase behind them, they made motion smoother and success rarer (BENCHMARKS.md).

    A row's first plan is primed: `denoise` samples it whole in `cold` steps and adds noise to the later blocks; `zero`
    puts noise on a plan of zeros, `constant` on the first action that one evaluation at pure noise expects, repeated.
    """

    def __init__(
        self,
        steps: int = 4,
        cold: int = 10,
        primer: Primer = "denoise",
        solver: Solver | None = None,
        clip: float | None = 1.0,
    ) -> None:
        if steps < 1 or cold < 1:
            raise ConfigError(
                f"inference.steps is {steps} and inference.cold {cold}; at least one step is needed"
            )
        if primer not in get_args(Primer):
            raise ConfigError(
                f"inference.primer is {primer!r}; choose one of {', '.join(get_args(Primer))}"
            )
        self.steps, self.cold, self.primer, self.clip = steps, cold, primer, clip
        self.solver = solver or DDIM()
        self._level_tables = LevelTableCache()

    def check(self, capabilities: Capabilities, horizon: Horizon) -> None:
        """The staircase met must be the one trained: its regime, and blocks of the same length."""
        want_regime(capabilities, "staircase", "inference=sdp")
        if self.primer != "zero":  # both others evaluate plans of one level
            want_regime(
                capabilities, "constant", f"inference=sdp with inference.primer={self.primer}"
            )
        horizon.check_streaming()
        if capabilities.relative:
            raise ConfigError(
                "inference=sdp keeps noisy steps from call to call, which cannot be taken over to another pose of the hand: "
                "train with actions=rotation_6d instead of actions=relative, or use inference=rti"
            )
        if (horizon.executed, horizon.past) != (
            capabilities.horizon.executed,
            capabilities.horizon.past,
        ):
            raise ConfigError(
                f"inference=sdp moves on by blocks of {capabilities.horizon.executed} steps, as the checkpoint was trained; "
                f"executed={horizon.executed} makes another staircase: leave it out, or train with "
                f"horizon.executed={horizon.executed}"
            )

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row, clean in the chunk to execute."""
        return cold_or_warm(
            request, self._sampled if self.primer == "denoise" else self._primed, self._rolled
        )

    def _sampled(self, request: PlanRequest) -> PlanOutcome:
        """A whole plan, then noise on the later blocks."""
        outcome = Fresh(self.cold, DDIM(), self.clip)(request)
        target = self._stairs(request, 1.0)
        clean = torch.zeros_like(target)
        x = raise_noise(outcome.plan, request.draw(), clean, target)
        return PlanOutcome(x, outcome.nfe, target)

    def _primed(self, request: PlanRequest) -> PlanOutcome:
        """A plan of zeros, or of one action repeated, with the noise of the staircase; then one call of it."""
        noise = request.draw()
        clean, spent = (
            torch.zeros_like(noise),
            torch.zeros(request.rows, dtype=torch.long, device=noise.device),
        )
        if self.primer == "constant":
            denoise = request.denoiser.bind(request.context, self.clip)
            expected = denoise(noise, torch.ones(noise.shape[:2], device=noise.device))
            clean, spent = (
                expected[:, request.horizon.past, None].expand_as(noise).clone(),
                denoise.nfe,
            )
        outcome = self._go_down(
            request,
            raise_noise(clean, noise, torch.zeros_like(clean[..., 0]), self._stairs(request, 0.0)),
        )
        return PlanOutcome(outcome.plan, outcome.nfe + spent, outcome.level)

    def _rolled(self, request: PlanRequest) -> PlanOutcome:
        """The plan moved on; every step back on its stair, behind the end of what was known pure noise."""
        before = request.shift_plan()
        stairs = self._stairs(request, 0.0)
        return self._go_down(
            request, raise_noise(before.plan, request.draw(), before.level, stairs)
        )

    def _go_down(self, request: PlanRequest, x: Tensor) -> PlanOutcome:
        """One stair down in `steps` evaluations."""
        pairs = [self._stairs(request, number / self.steps) for number in range(self.steps + 1)]
        grid = torch.stack(
            [pair[0] for pair in pairs]
        )  # (S + 1, T): all rows stand on the same stairs
        denoise = request.denoiser.bind(
            request.context, self.clip, self._level_tables.of(request, grid)
        )
        plan = run_sampling_loop(denoise, self.solver, x, pairs, request.draw)
        return PlanOutcome(plan, denoise.nfe, pairs[-1])

    def _stairs(self, request: PlanRequest, progress: float) -> Tensor:
        """Levels (R, T) of the staircase with a share of a stair already removed."""
        done = torch.full((request.rows,), progress, dtype=torch.float64)
        return (
            request.schedule.level(staircase_times(request.horizon, done))
            .float()
            .to(request.noise.device)
        )
