"""Fresh plans with classifier-free (2207.12598) or adaptive guidance (2312.12487)."""

from __future__ import annotations

from typing import Self

from ...spec import ConfigError, Horizon
from ..diffusion.contract import BoundDenoiser
from ..diffusion.guidance import ClassifierFreeDenoiser
from ..diffusion.schedule import check_steps
from ..diffusion.solvers import DDIM, Solver
from .base import Capabilities, PlanOutcome, PlanRequest, Sampler, run_sampler, want_regime


class ClassifierFreeGuidance(Sampler):
    """Sample from noise with guidance of strength `weight`; 1 is plain sampling, to the bit.

    `agree` is the distance of the two estimates (root mean square, normalised units) below which a
    row goes on without the second one; null never does.
    """

    def __init__(
        self,
        steps: int = 10,
        weight: float = 2.0,
        agree: float | None = 0.02,
        solver: Solver | None = None,
        clip: float | None = 1.0,
    ) -> None:
        """Build it with these options.

        steps: steps of a plan, of one or two denoiser evaluations
        weight: strength of the guidance; 1: none
        agree: distance of both estimates below which the second one is left out [normalised units];
            none: never
        solver: step from one noise level to the next
        clip: estimates are clipped to this in each number [normalised units]; none: never
        """
        if agree is not None and agree < 0:
            raise ConfigError(
                f"inference.agree is {agree}; it is a distance of 0 or more in normalised units, "
                "or null"
            )
        self.steps = check_steps(steps)
        self.weight = weight
        self.agree = agree
        self.solver = solver or DDIM()
        self.clip = clip

    def adapt_to(self, capabilities: Capabilities, horizon: Horizon) -> Self:
        """The checkpoint must have been trained without the instruction, too."""
        want_regime(capabilities, "constant", "inference=cfg")
        if self.weight != 1 and not capabilities.unconditional:
            raise ConfigError(
                "inference=cfg leads away from plans made without the instruction, which this "
                "checkpoint was not trained to make: train with encoder=language "
                "encoder.condition_dropout=0.1"
            )
        return self

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        x, levels = request.draw_start(), request.grid(self.steps)
        if self.weight == 1:
            return run_sampler(request, x, levels, self.solver, self.clip)
        unconditional = request.model.unconditional().bind(levels, None)

        def guide(conditional: BoundDenoiser) -> ClassifierFreeDenoiser:
            return ClassifierFreeDenoiser(
                conditional, unconditional, self.weight, self.agree, self.clip
            )

        return run_sampler(request, x, levels, self.solver, None, guide)
