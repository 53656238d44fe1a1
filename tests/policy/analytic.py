"""Denoisers that are known exactly, and requests for plans from them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from hotstart.policy.denoisers.base import Network
from hotstart.policy.diffusion.contract import Denoiser, Preconditioner
from hotstart.policy.diffusion.noise import RowNoise
from hotstart.policy.diffusion.schedule import VPCosine, alpha_sigma
from hotstart.policy.samplers.base import PlanRequest
from hotstart.spec import Horizon
from torch import Tensor

Posterior = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x (B, T, A), alpha (B, T, 1), sigma (B, T, 1)) -> E[x0 | x]."""


class Exact(Network):
    """A network that says x0 by a formula; `seen` keeps the levels it was asked at."""

    def __init__(self, posterior: Posterior) -> None:
        super().__init__()
        self.posterior, self.width = posterior, 1
        self.seen: list[Tensor] = []

    def encode_context(self, tokens: Tensor) -> Tensor:
        return tokens

    def modulation(self, level: Tensor) -> None:
        return None

    def forward(self, x: Tensor, level: Tensor, context: Tensor, prepared: None = None) -> Tensor:
        self.seen.append(level.clone())
        return self.posterior(x, *alpha_sigma(level.unsqueeze(-1)))


def gaussian(mean: float, spread: float) -> Posterior:
    """Data N(mean, spread^2), every number by itself."""

    def posterior(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return mean + alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * (x - alpha * mean)

    return posterior


def two_points(size: float, share: float) -> Posterior:
    """Data +size with probability `share`, else -size."""

    def posterior(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        odds = 0.5 * np.log(share / (1 - share))
        return size * torch.tanh(size * alpha * x / sigma.clamp_min(1e-9) ** 2 + odds)

    return posterior


def smooth(coupling: float) -> Posterior:
    """Nothing real, but smooth, not linear, and every step depends on its neighbours."""

    def posterior(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return torch.tanh(alpha * x + coupling * torch.roll(x, 1, 1) - 0.1 * sigma)

    return posterior


def request(
    posterior: Posterior,
    rows: int = 4,
    horizon: Horizon | None = None,
    width: int = 2,
    previous: Tensor | None = None,
    executed: int | Sequence[int] = 8,
    frozen: Sequence[int] | None = None,
    previous_level: Tensor | None = None,
    discrete: Sequence[bool] | None = None,
    seed: int = 0,
) -> PlanRequest:
    """What a way is asked; rows have the seeds seed, seed + 1, ..."""
    horizon = horizon or Horizon(2, 24, 8)
    steps = np.broadcast_to(np.asarray(executed), (rows,)).copy()
    return PlanRequest(
        denoiser=Denoiser(Exact(posterior), Preconditioner("x0")),
        schedule=VPCosine(),
        context=torch.zeros(rows, 1),
        horizon=horizon,
        width=width,
        noise=RowNoise(np.arange(seed, seed + rows), np.zeros(rows)),
        previous=torch.full((rows, horizon.planned, width), torch.nan)
        if previous is None
        else previous,
        previous_level=previous_level,
        executed=steps,
        frozen=None if frozen is None else np.asarray(frozen),
        discrete=None if discrete is None else torch.tensor(discrete),
    )
