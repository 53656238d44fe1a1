"""Solver steps: move a plan from the noise levels it has to the levels it should have next.

`step(denoise, x, level_from, level_to, history) -> (mean, std, history)`, where denoise(x, level)
gives x0 for the observations it is bound to. Shapes: x (R, T, A), levels (R, T), one per action
step, so that a staircase is as good as a constant. Action steps with level_to >= level_from stay
exactly as they are. The sampling loop adds std * noise: one place owns randomness.

Every solver takes `min_std`, the least std at an action step that moves: it adds noise where the
solver itself has none, so that each step has a finite log-probability, as policy gradients over
denoising steps need (DPPO, 2409.00588). The mean stays the solver's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ...spec import ConfigError
from .schedule import alpha_sigma

DenoiseFn = Callable[[Tensor, Tensor], Tensor]
"""(x (R, T, A), level (R, T)) -> x0 (R, T, A)."""


class Step(NamedTuple):
    """Outcome of a solver step: the next x is mean + std * noise."""

    mean: Tensor  # (R, T, A)
    std: Tensor  # (R, T, 1), zero where the step is deterministic
    history: Any  # for the solver's next step


class Solver(Protocol):
    """A rule for one step; a multistep one keeps what it needs of earlier steps in its history."""

    stochastic: bool
    """Whether std is above 0 anywhere, so that the loop draws noise."""
    order: int

    def step(
        self, denoise: DenoiseFn, x: Tensor, level_from: Tensor, level_to: Tensor, history: Any
    ) -> Step:
        """One step of x (R, T, A) from level_from to level_to, (R, T) each.

        `history` is the last step's, None at the first one.
        """
        ...


class Estimate(NamedTuple):
    """What DDIM and DPM-Solver++ remember of a step."""

    x0: Tensor  # (R, T, A)
    level: Tensor  # (R, T) level that the estimate was made at


class Slopes(NamedTuple):
    """What PLMS remembers: noise estimates of the steps before, newest first."""

    eps: tuple[Tensor, ...]  # (R, T, A) each


class DDIM:
    """DDIM (2010.02502, eq. 12); eta = 0 is the probability-flow ODE, eta = 1 ancestral DDPM.

    eta = 1 has the smaller variance of DDPM (`fixed_small`). eta = 0 is also the Euler step of the
    flow family: in x0 form both are x' = (sigma'/sigma) x + (alpha' - alpha sigma'/sigma) x0 after
    rescaling to the variance-preserving variable.
    """

    order = 1

    def __init__(self, eta: float = 0.0, min_std: float = 0.0) -> None:
        """`min_std` is in normalised units, see the module's text; 0 adds no noise.

        eta: noise that a step adds: 0 none (DDIM), 1 ancestral (DDPM)
        min_std: least standard deviation of the noise that a step adds [normalised units]; 0: as
            the solver says
        """
        if not 0 <= eta <= 1:
            raise ConfigError(f"inference.solver.eta is {eta}; it must lie in [0, 1]")
        self.eta = eta
        self.min_std = _check_min_std(min_std)
        self.stochastic = eta > 0 or min_std > 0

    def step(
        self,
        denoise: DenoiseFn,
        x: Tensor,
        level_from: Tensor,
        level_to: Tensor,
        history: Estimate | None,
    ) -> Step:
        """One step of x (R, T, A) between levels (R, T); the history is not used."""
        x0 = denoise(x, level_from)
        alpha, sigma = _scales(level_from)
        alpha_next, sigma_next = _scales(level_to)
        sigma = sigma.clamp_min(1e-12)
        eps = (x - alpha * x0) / sigma
        shrink = (1 - (alpha / alpha_next.clamp_min(1e-12)) ** 2).clamp_min(0)
        std = self.eta * (sigma_next / sigma) * torch.sqrt(shrink)
        mean = alpha_next * x0 + torch.sqrt((sigma_next**2 - std**2).clamp_min(0)) * eps
        mean, std = _keep_finished(x, mean, std, level_from, level_to, self.min_std)
        return Step(mean, std, Estimate(x0, level_from))


class DPMSolverPP:
    """DPM-Solver++ 2M (2211.01095, algorithm 2): second order from two estimates of x0.

    It is of first order at the first step and next to pure noise and clean.
    """

    def __init__(self, order: int = 2, min_std: float = 0.0) -> None:
        """`min_std` is in normalised units, see the module's text; 0 adds no noise.

        order: estimates that a step uses: 1 or 2
        min_std: least standard deviation of the noise that a step adds [normalised units]; 0: as
            the solver says
        """
        if order not in (1, 2):
            raise ConfigError(
                f"inference.solver.order is {order}; DPM-Solver++ is here in order 1 and 2"
            )
        self.order = order
        self.min_std = _check_min_std(min_std)
        self.stochastic = min_std > 0

    def step(
        self,
        denoise: DenoiseFn,
        x: Tensor,
        level_from: Tensor,
        level_to: Tensor,
        history: Estimate | None,
    ) -> Step:
        """One step of x (R, T, A) between levels (R, T), in the variable log(alpha / sigma)."""
        x0 = denoise(x, level_from)
        if history is None or self.order == 1:
            estimate = x0
        else:
            estimate = self._extrapolate(x0, level_from, level_to, history)
        alpha, sigma = _scales(level_from)
        alpha_next, sigma_next = _scales(level_to)
        ratio = sigma_next / sigma.clamp_min(1e-12)
        mean = ratio * x + (alpha_next - alpha * ratio) * estimate  # = (s'/s) x - a' (e^-h - 1) D
        std = torch.zeros_like(sigma)
        mean, std = _keep_finished(x, mean, std, level_from, level_to, self.min_std)
        return Step(mean, std, Estimate(x0, level_from))

    def _extrapolate(
        self, x0: Tensor, level_from: Tensor, level_to: Tensor, history: Estimate
    ) -> Tensor:
        """D = x0 + (x0 - x0_before) / 2r; plain x0 next to pure noise and clean."""
        before = _log_snr(history.level)
        now = _log_snr(level_from)
        after = _log_snr(level_to)
        share = (after - now) / (2 * (now - before))  # 1 / 2r, (R, T)
        usable = torch.isfinite(share) & torch.isfinite(after) & (now > before)
        share = torch.where(usable, share, torch.zeros_like(share)).unsqueeze(-1)
        return x0 + share * (x0 - history.x0)


ADAMS_BASHFORTH = (
    (1.0,),
    (1.5, -0.5),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of the newest noise estimates, by how many there are (2202.09778, equations 9 and 12)."""


class PLMS:
    """Pseudo linear multistep (PNDM, 2202.09778): DDIM with Adams-Bashforth's noise estimate.

    The order rises over the first steps, one by one. The weights are those of an even grid of
    schedule times. All action steps must move at every step: a history cannot be patched.
    """

    def __init__(self, order: int = 4, min_std: float = 0.0) -> None:
        """`min_std` is in normalised units, see the module's text; 0 adds no noise.

        order: noise estimates that a step uses: 1 to 4
        min_std: least standard deviation of the noise that a step adds [normalised units]; 0: as
            the solver says
        """
        if order not in (1, 2, 3, 4):
            raise ConfigError(f"inference.solver.order is {order}; PLMS is here in orders 1 to 4")
        self.order = order
        self.min_std = _check_min_std(min_std)
        self.stochastic = min_std > 0

    def step(
        self,
        denoise: DenoiseFn,
        x: Tensor,
        level_from: Tensor,
        level_to: Tensor,
        history: Slopes | None,
    ) -> Step:
        """One step of x (R, T, A) between levels (R, T)."""
        x0 = denoise(x, level_from)
        alpha, sigma = _scales(level_from)
        alpha_next, sigma_next = _scales(level_to)
        sigma = sigma.clamp_min(1e-12)
        newest = (x - alpha * x0) / sigma
        slopes = (newest,)
        if history is not None:
            slopes = (newest, *history.eps)[: self.order]
        eps = torch.zeros_like(x)
        for weight, slope in zip(ADAMS_BASHFORTH[len(slopes) - 1], slopes, strict=True):
            eps = eps + weight * slope
        # DDIM's step with the newest estimate, then what the older ones change:
        # x' = (a'/a) x + (s' - s a'/a) eps.
        turn = sigma_next - sigma * alpha_next / alpha.clamp_min(1e-6)
        mean = alpha_next * x0 + sigma_next * newest + turn * (eps - newest)
        std = torch.zeros_like(sigma)
        mean, std = _keep_finished(x, mean, std, level_from, level_to, self.min_std)
        return Step(mean, std, Slopes(slopes))


def _check_min_std(min_std: float) -> float:
    """`min_std`; ConfigError where it is negative."""
    if min_std < 0:
        raise ConfigError(f"inference.solver.min_std is {min_std}; it must be 0 or more")
    return min_std


def _scales(level: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, sigma), (R, T, 1) each, at levels (R, T)."""
    return alpha_sigma(level.unsqueeze(-1))


def _log_snr(level: Tensor) -> Tensor:
    """lambda = log(alpha / sigma), (R, T); infinite at both ends."""
    return torch.log((1 - level) / level)


def _keep_finished(
    x: Tensor, mean: Tensor, std: Tensor, level_from: Tensor, level_to: Tensor, min_std: float
) -> tuple[Tensor, Tensor]:
    """Finished action steps keep their value and get no noise, the others `min_std` at least."""
    moving = (level_to < level_from).unsqueeze(-1)
    if min_std > 0:
        std = std.clamp_min(min_std)
    return torch.where(moving, mean, x), torch.where(moving, std, torch.zeros_like(std))
