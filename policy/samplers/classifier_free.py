"""Fresh plans that are led towards the instruction: classifier-free and adaptive guidance (2207.12598, 2312.12487)."""

from __future__ import annotations

from ...spec import ConfigError, Horizon
from ..diffusion.guidance import ClassifierFree
from ..diffusion.schedule import grid
from ..diffusion.solvers import DDIM, Solver
from .base import (
    Capabilities,
    LevelTableCache,
    PlanOutcome,
    PlanRequest,
    run_sampling_loop,
    want_regime,
)


class ClassifierFreeGuidance:
    """Sample from noise in `steps` with guidance of strength `weight`; 1 is plain sampling, to the bit.

    `agree` is the distance of the two estimates (root mean square, normalised units) below which a row goes on without the second
    one; null never does.
    """

    def __init__(
        self,
        steps: int = 10,
        weight: float = 2.0,
        agree: float | None = 0.02,
        solver: Solver | None = None,
        clip: float | None = 1.0,
    ) -> None:
        if steps < 1:
            raise ConfigError(f"inference.steps is {steps}; at least one step is needed")
        if agree is not None and agree < 0:
            raise ConfigError(
                f"inference.agree is {agree}; it is a distance of 0 or more in normalised units, or null"
            )
        self.steps, self.weight, self.agree, self.clip = steps, weight, agree, clip
        self.solver = solver or DDIM()
        self._level_tables = LevelTableCache()

    @property
    def needs_unconditional(self) -> bool:
        """Whether plans without words are needed at all."""
        return self.weight != 1

    def check(self, capabilities: Capabilities, horizon: Horizon) -> None:
        """The checkpoint must know what to do without words."""
        want_regime(capabilities, "constant", "inference=cfg")
        if self.needs_unconditional and not capabilities.unconditional:
            raise ConfigError(
                "inference=cfg leads away from plans made without the instruction, which this checkpoint was not trained to "
                "make: train with encoder=language encoder.condition_dropout=0.1"
            )

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        steps, start = request.horizon.planned, request.draw()
        levels = grid(request.schedule, self.steps).to(start.device)  # (S + 1,)
        told = request.denoiser.bind(request.context, None, self._level_tables.of(request, levels))
        denoise = ClassifierFree(told, request.unconditional, self.weight, self.agree, self.clip)
        pairs = [level.expand(request.rows, steps) for level in levels]
        return PlanOutcome(
            run_sampling_loop(denoise, self.solver, start, pairs, request.draw), denoise.nfe
        )
