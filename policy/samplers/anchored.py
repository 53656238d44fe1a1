"""Anchored truncated start: begin from a plan that the data hold often instead of from pure noise (2411.15139)."""

from __future__ import annotations

from ...spec import ConfigError, Horizon
from ..diffusion.schedule import add_noise, grid
from ..diffusion.solvers import DDIM, Solver
from .base import (
    Capabilities,
    LevelTableCache,
    PlanOutcome,
    PlanRequest,
    run_sampling_loop,
    want_regime,
)


class Anchored:
    """`steps` evaluations from schedule time `start`, at every call, from the anchor that the checkpoint's head chooses.

    Nothing is remembered from call to call. The noise of `start` hides how far the anchor lies from the plan wanted.
    """

    def __init__(
        self,
        steps: int = 2,
        start: float = 0.4,
        solver: Solver | None = None,
        clip: float | None = 1.0,
    ) -> None:
        if steps < 1:
            raise ConfigError(f"inference.steps is {steps}; at least one step is needed")
        if not 0 < start <= 1:
            raise ConfigError(
                f"inference.start is {start}; it is a schedule time above 0 and at most 1"
            )
        self.steps, self.start, self.solver, self.clip = steps, start, solver or DDIM(), clip
        self._level_tables = LevelTableCache()

    def check(self, capabilities: Capabilities, horizon: Horizon) -> None:
        """The checkpoint must have been given anchors."""
        want_regime(capabilities, "constant", "inference=anchored")
        if not capabilities.anchored:
            raise ConfigError(
                "inference=anchored begins from anchors, and this checkpoint has none: "
                "hotstart checkpoint anchors RUN data=DATA out=OUT gives it some"
            )

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        assert request.anchor is not None
        levels = grid(request.schedule, self.steps, self.start).to(request.noise.device)  # (S + 1,)
        denoise = request.denoiser.bind(
            request.context, self.clip, self._level_tables.of(request, levels)
        )
        pairs = [level.expand(request.anchor.shape[:2]) for level in levels]
        x = add_noise(request.anchor, request.draw(), pairs[0])
        return PlanOutcome(
            run_sampling_loop(denoise, self.solver, x, pairs, request.draw), denoise.nfe
        )
