"""Anchored truncated start (2411.15139): begin from a frequent plan of the data, not from noise."""

from __future__ import annotations

from typing import Self

from ...spec import ConfigError, Horizon
from ..diffusion.schedule import add_noise, check_steps
from ..diffusion.solvers import DDIM, Solver
from .base import Capabilities, PlanOutcome, PlanRequest, Sampler, run_sampler, want_regime


class Anchored(Sampler):
    """`steps` evaluations from time `start`, from the anchor that the checkpoint's head chooses.

    Nothing is remembered from call to call. The noise of `start` hides how far the anchor lies from
    the plan wanted.
    """

    def __init__(
        self,
        steps: int = 2,
        start: float = 0.4,
        solver: Solver | None = None,
        clip: float | None = 1.0,
    ) -> None:
        """Build it with these options.

        steps: denoiser evaluations of a plan
        start: schedule time in (0, 1] to begin at
        solver: step from one noise level to the next
        clip: estimates are clipped to this in each number [normalised units]; none: never
        """
        if not 0 < start <= 1:
            raise ConfigError(
                f"inference.start is {start}; it is a schedule time above 0 and at most 1"
            )
        self.steps = check_steps(steps)
        self.start = start
        self.solver = solver or DDIM()
        self.clip = clip

    def adapt_to(self, capabilities: Capabilities, horizon: Horizon) -> Self:
        """The checkpoint must have been given anchors."""
        want_regime(capabilities, "constant", "inference=anchored")
        if not capabilities.anchored:
            raise ConfigError(
                "inference=anchored begins from anchors, and this checkpoint has none: "
                "hotstart checkpoint anchors RUN data=DATA out=OUT gives it some"
            )
        return self

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        noise, levels = request.draw(), request.grid(self.steps, self.start)
        x = add_noise(request.model.anchor(), noise, levels[0])
        return run_sampler(request, x, levels, self.solver, self.clip)
