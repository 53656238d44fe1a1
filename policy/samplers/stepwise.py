"""Step-wise search: candidates at every one of the last steps, ranked by learned values.

The pool of candidates that Step-aware Preference Optimization (2406.04314) compares at a denoising
step, used for search. There a model of its own scores noisy images; here the values score the clean
chunk that the denoiser expects of a candidate.
"""

from __future__ import annotations

from functools import partial
from typing import Self

import torch
from torch import Tensor

from ...spec import ConfigError, Horizon
from ..diffusion.contract import BoundDenoiser
from ..diffusion.schedule import check_steps
from ..diffusion.solvers import DDIM, Solver
from .base import (
    Capabilities,
    PlanOutcome,
    PlanRequest,
    Sampler,
    sum_copies,
    take_best,
    want_regime,
    want_values,
)
from .best_of import check_count
from .fresh import check_start_noise
from .loop import sample


class StepwiseSearch(Sampler):
    """Of `count` noisy outcomes of a denoising step, go on with the one that the values put first.

    The last `searched` evaluations of a plan are made for `count` candidates each: draws of the
    step before, or of the starting noise where all are searched. A candidate counts as the least
    that a member of the ensemble says of the clean chunk that is expected of it. A row costs
    `steps` + (`count` - 1) `searched` evaluations. With `count` 1 it is equal to `Fresh` to the
    bit. The solver must add noise, and begins every step without a history.
    """

    def __init__(
        self,
        count: int = 4,
        steps: int = 10,
        searched: int = 5,
        solver: Solver | None = None,
        clip: float | None = 1.0,
        start_noise: float = 1.0,
    ) -> None:
        """Build it with these options.

        count: candidates at a step that is searched
        steps: steps of a plan, of one evaluation or of `count`
        searched: last steps whose evaluation is made for all candidates; from `steps` on all
        solver: step from one noise level to the next, which adds noise
        clip: estimates are clipped to this in each number [normalised units]; none: never
        start_noise: factor of the noise that plans begin with
        """
        self.count = check_count(count)
        self.steps = check_steps(steps)
        if searched < 1:
            raise ConfigError(f"inference.searched is {searched}; search one step at least")
        self.searched = searched
        self.solver = solver or DDIM(1.0)
        self.clip = clip
        self.start_noise = check_start_noise(start_noise)

    def adapt_to(self, capabilities: Capabilities, horizon: Horizon) -> Self:
        """Plans begin at pure noise; the checkpoint must have values, and the solver noise."""
        want_regime(capabilities, "constant", "inference=search")
        want_values(capabilities, "inference=search")
        if not self.solver.stochastic:
            raise ConfigError(
                "inference=search chooses between draws of a solver's noise, and this solver adds "
                "none: take solver@inference.solver=ddpm, or inference=best_of"
            )
        return self

    def __call__(self, request: PlanRequest) -> PlanOutcome:
        """Plans (R, T, A) for every row."""
        pool = request.branches(self.count)  # R * count rows
        levels = request.grid(self.steps)  # (S + 1, T)
        x = pool.draw_start(self.start_noise)
        noises = [pool.draw() for _ in range(self.steps)]
        alone = request.model.bind(levels, self.clip)
        together = pool.model.bind(levels, self.clip)
        first = self.steps - self.searched
        if first > 0:
            x = x[:: self.count]
        for step in range(self.steps):
            if step < first:
                x0 = estimate(alone, x, levels, step)
            else:
                x, x0 = self._choose(pool, x, estimate(together, x, levels, step))
            noise = noises[step]
            if first <= step + 1 < self.steps:
                x = x.repeat_interleave(self.count, 0)
                x0 = x0.repeat_interleave(self.count, 0)
            else:
                noise = noise[:: self.count]
            path = levels[step : step + 2].unsqueeze(1).expand(-1, len(x), -1)
            known = partial(recall, x0)
            x = sample(known, self.solver, x, noise.unsqueeze(0), path, request.trace)
        return PlanOutcome(x, alone.nfe + sum_copies(together.nfe, self.count))

    def _choose(self, pool: PlanRequest, x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Each row's best candidate x (R, T, A) and its clean plan, of R * count each."""
        copies = (-1, self.count)
        score = pool.model.score(x0).unflatten(0, copies)  # (R, count)
        best = take_best(x.unflatten(0, copies), score)
        return best, take_best(x0.unflatten(0, copies), score)


def estimate(denoise: BoundDenoiser, x: Tensor, levels: Tensor, step: int) -> Tensor:
    """The clean plans that are expected of x (R, T, A) at a step of the grid `levels`."""
    if torch.is_grad_enabled():
        return denoise(x, levels[step].expand(x.shape[:2]))
    return denoise(x, levels[step].expand(x.shape[:2]), step)


def recall(x0: Tensor, x: Tensor, level: Tensor, step: int | None = None) -> Tensor:
    """An estimate that was made before, as `sample` asks for it."""
    return x0
