"""Solver steps: move a plan from the noise levels it has to the levels it should have next.

`step(D, x, level_from, level_to, history) -> (mean, std, history)`, where D(x, level) -> x0 is a denoiser with its
context bound, x is (B, T, A) and levels are (B, T): a staircase is as good as a constant. Positions with
level_to >= level_from stay exactly as they are. The caller adds std * noise, so that one place owns randomness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ...spec import ConfigError
from .schedule import alpha_sigma

DenoiseFn = Callable[[Tensor, Tensor], Tensor]


class History(NamedTuple):
    """What a multistep solver remembers of the step before, per position."""

    x0: Tensor  # (B, T, A)
    level: Tensor  # (B, T) level that the estimate was made at


class Step(NamedTuple):
    """Outcome of a solver step: the next x is mean + std * noise."""

    mean: Tensor  # (B, T, A)
    std: Tensor  # (B, T, 1), zero where the step is deterministic
    history: Any


class Solver(Protocol):
    """A rule for one step; `stochastic` ones have a std and so give log-probabilities, `order` > 1 ones use the history."""

    stochastic: bool
    order: int

    def step(
        self, denoise: DenoiseFn, x: Tensor, level_from: Tensor, level_to: Tensor, history: Any
    ) -> Step:
        """One step of the whole plan; see the module's text."""
        ...


def _scales(level: Tensor) -> tuple[Tensor, Tensor]:
    return alpha_sigma(level.unsqueeze(-1))  # (B, T, 1) each


def _keep_finished(
    x: Tensor, mean: Tensor, std: Tensor, level_from: Tensor, level_to: Tensor
) -> tuple[Tensor, Tensor]:
    """Positions that have nothing to remove keep their value and get no noise."""
    moving = (level_to < level_from).unsqueeze(-1)
    return torch.where(moving, mean, x), torch.where(moving, std, torch.zeros_like(std))


class DDIM:
    """DDIM (2010.02502, eq. 12); eta = 0 is the probability-flow ODE, eta = 1 is ancestral DDPM with the smaller variance.

    With eta = 0 this is also the Euler step of the flow family: in x0 form both are
    x' = (sigma'/sigma) x + (alpha' - alpha sigma'/sigma) x0 after rescaling to the variance-preserving variable.
    """

    order = 1

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ConfigError(f"inference.solver.eta is {eta}; it must lie in [0, 1]")
        self.eta = eta
        self.stochastic = eta > 0

    def step(
        self,
        denoise: DenoiseFn,
        x: Tensor,
        level_from: Tensor,
        level_to: Tensor,
        history: History | None,
    ) -> Step:
        """One (partly stochastic) step."""
        x0 = denoise(x, level_from)
        alpha, sigma = _scales(level_from)
        alpha_next, sigma_next = _scales(level_to)
        sigma = sigma.clamp_min(1e-12)
        eps = (x - alpha * x0) / sigma
        shrink = (1 - (alpha / alpha_next.clamp_min(1e-12)) ** 2).clamp_min(0)
        std = self.eta * (sigma_next / sigma) * torch.sqrt(shrink)
        mean = alpha_next * x0 + torch.sqrt((sigma_next**2 - std**2).clamp_min(0)) * eps
        return Step(*_keep_finished(x, mean, std, level_from, level_to), History(x0, level_from))


class DPMSolverPP:
    """DPM-Solver++ 2M (2211.01095, algorithm 2): second order from two estimates of x0; first order at either end."""

    stochastic = False

    def __init__(self, order: int = 2) -> None:
        if order not in (1, 2):
            raise ConfigError(
                f"inference.solver.order is {order}; DPM-Solver++ is here in order 1 and 2"
            )
        self.order = order

    def step(
        self,
        denoise: DenoiseFn,
        x: Tensor,
        level_from: Tensor,
        level_to: Tensor,
        history: History | None,
    ) -> Step:
        """One deterministic step in the log-SNR variable."""
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
        return Step(*_keep_finished(x, mean, std, level_from, level_to), History(x0, level_from))

    def _extrapolate(
        self, x0: Tensor, level_from: Tensor, level_to: Tensor, history: History
    ) -> Tensor:
        """D = x0 + (x0 - x0_before) / 2r; plain x0 where a neighbour lies at infinite log-SNR (pure noise or clean)."""
        before, now, after = (_log_snr(level) for level in (history.level, level_from, level_to))
        share = (after - now) / (2 * (now - before))  # 1 / 2r
        usable = torch.isfinite(share) & torch.isfinite(after) & (now > before)
        share = torch.where(usable, share, torch.zeros_like(share)).unsqueeze(-1)
        return x0 + share * (x0 - history.x0)


class Slopes(NamedTuple):
    """What PLMS remembers: noise estimates of the steps before, newest first."""

    eps: tuple[Tensor, ...]  # (B, T, A) each


ADAMS_BASHFORTH = (
    (1.0,),
    (1.5, -0.5),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of the newest noise estimates, by how many there are (2202.09778, equations 9 and 12)."""


class PLMS:
    """Pseudo linear multistep (PNDM, 2202.09778): DDIM's transfer with a noise estimate of Adams and Bashforth.

    The order rises over the first steps, one by one. The weights are those of an even grid of schedule times. Positions
    must all move at every step or at none: a history cannot be patched.
    """

    stochastic = False

    def __init__(self, order: int = 4) -> None:
        if order not in (1, 2, 3, 4):
            raise ConfigError(f"inference.solver.order is {order}; PLMS is here in orders 1 to 4")
        self.order = order

    def step(
        self,
        denoise: DenoiseFn,
        x: Tensor,
        level_from: Tensor,
        level_to: Tensor,
        history: Slopes | None,
    ) -> Step:
        """One deterministic step."""
        x0 = denoise(x, level_from)
        alpha, sigma = _scales(level_from)
        alpha_next, sigma_next = _scales(level_to)
        sigma = sigma.clamp_min(1e-12)
        newest = (x - alpha * x0) / sigma
        slopes = (newest, *(history.eps if history else ()))[: self.order]
        eps = sum(
            (w * e for w, e in zip(ADAMS_BASHFORTH[len(slopes) - 1], slopes, strict=True)),
            torch.zeros_like(x),
        )
        # DDIM's step with the newest estimate, then what the others change: x' = (a'/a) x + (s' - s a'/a) eps.
        turn = sigma_next - sigma * alpha_next / alpha.clamp_min(1e-6)
        mean = alpha_next * x0 + sigma_next * newest + turn * (eps - newest)
        return Step(
            *_keep_finished(x, mean, torch.zeros_like(sigma), level_from, level_to), Slopes(slopes)
        )


def _log_snr(level: Tensor) -> Tensor:
    """lambda = log(alpha / sigma), (B, T); infinite at both ends."""
    return torch.log((1 - level) / level)
