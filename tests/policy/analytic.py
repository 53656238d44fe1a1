"""Denoisers that are known exactly, and requests for plans from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from hotstart.policy.denoisers.base import Network
from hotstart.policy.diffusion.contract import BoundDenoiser, Denoiser, Preconditioner
from hotstart.policy.diffusion.noise import RowNoise
from hotstart.policy.diffusion.schedule import Schedule, VPCosine, alpha_sigma
from hotstart.policy.samplers.base import PlanRequest, PreviousPlan
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


@dataclass(frozen=True)
class KnownModel:
    """A `PlanModel` of R rows whose posterior mean is a formula; `context` (R, 1) is what it
    saw.
    """

    denoiser: Denoiser
    context: Tensor
    horizon: Horizon
    width: int
    discrete: Tensor
    discrete_size: float = 1.0
    schedule: Schedule = field(default_factory=VPCosine)
    untold: Tensor | None = None  # (R, 1) the context without the instruction
    start: Tensor | None = None  # (R, T, A) the anchor

    @property
    def seen(self) -> list[Tensor]:
        """The levels (R, T) that the network was asked at."""
        network = self.denoiser.network
        assert isinstance(network, Exact)
        return network.seen

    def bind(self, levels: Tensor | None, clip: float | None) -> BoundDenoiser:
        return self.denoiser.bind(self.context, clip, self.denoiser.prepare(levels))

    def unconditional(self) -> "KnownModel":
        assert self.untold is not None
        return replace(self, context=self.untold)

    def anchor(self) -> Tensor:
        assert self.start is not None
        return self.start

    def steer_noise(self, noise: Tensor) -> Tensor:
        return noise

    def score(self, plan: Tensor) -> Tensor:
        return -plan.abs().flatten(1).sum(1)

    def take(self, rows: Tensor) -> "KnownModel":
        untold = None if self.untold is None else self.untold[rows]
        return replace(self, context=self.context[rows], untold=untold)


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
    **model: Any,
) -> PlanRequest:
    """A request for plans; rows have the seeds seed, seed + 1, ...; `model` sets fields of the
    KnownModel.
    """
    horizon = horizon or Horizon(2, 24, 8)
    fields = {
        "denoiser": Denoiser(Exact(posterior), Preconditioner("x0")),
        "context": torch.zeros(rows, 1),
        "horizon": horizon,
        "width": width,
        "discrete": torch.tensor(discrete or [False] * width),
    }
    known = KnownModel(**{**fields, **model})
    if previous is None:
        previous = torch.full((rows, horizon.planned, width), torch.nan)
    if previous_level is None:
        previous_level = torch.zeros(rows, horizon.planned)
    before = PreviousPlan(
        plan=previous,
        level=previous_level,
        executed=torch.as_tensor(executed).expand(rows),
        frozen=torch.as_tensor(0 if frozen is None else frozen).expand(rows),
    )
    return PlanRequest(
        known, RowNoise(np.arange(seed, seed + rows), np.zeros(rows, np.int64)), before
    )
