"""The denoiser contract: D(x, level, context) -> x0, whatever the network was trained to predict.

eps, x0, v and EDM preconditioning are settled here and nowhere else; training and sampling cannot disagree.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...spec import ConfigError, shorten
from ..denoisers.base import LevelTable, Network
from .schedule import alpha_sigma

PREDICTIONS = ("v", "eps", "x0", "edm")
ALPHA_LEAST = 1e-4
"""An eps-network says nothing about x0 at pure noise; alpha is held above this there."""


class Preconditioner:
    """Scales in and out of a network, per action step; x is the variance-preserving variable.

    v: v = alpha eps - sigma x0 (2202.00512, appendix D). edm: c_skip, c_out, c_in of 2206.00364, table 1, for data of
    standard deviation `sigma_data`, written for x = alpha x0 + sigma eps.
    """

    def __init__(self, prediction: str = "v", sigma_data: float = 0.5) -> None:
        if prediction not in PREDICTIONS:
            raise ConfigError(
                f"prediction is {shorten(prediction)}; choose one of {', '.join(PREDICTIONS)}"
            )
        self.prediction, self.sigma_data = prediction, sigma_data

    def coefficients(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(c_in, c_skip, c_out), (B, T, 1) each: x0 = c_skip x + c_out F(c_in x)."""
        alpha, sigma = alpha_sigma(level.unsqueeze(-1))
        one = torch.ones_like(alpha)
        if self.prediction == "v":
            return one, alpha, -sigma
        if self.prediction == "x0":
            return one, torch.zeros_like(one), one
        if self.prediction == "eps":
            alpha = alpha.clamp_min(ALPHA_LEAST)
            return one, 1 / alpha, -sigma / alpha
        total = sigma**2 + (alpha * self.sigma_data) ** 2  # variance of x
        return (
            1 / total.sqrt(),
            alpha * self.sigma_data**2 / total,
            sigma * self.sigma_data / total.sqrt(),
        )

    def error(self, predicted_x0: Tensor, x0: Tensor, level: Tensor) -> Tensor:
        """Error of the network's own output at a common noisy x, (x0^ - x0) / c_out, (B, T, A): in v, eps, x0 or EDM's F.

        At clean positions nothing is asked of the network, and c_out may be 0 there: the caller leaves them out.
        """
        c_out = self.coefficients(level)[2]
        return (predicted_x0 - x0) / torch.where(c_out.abs() < 1e-6, torch.ones_like(c_out), c_out)


class Denoiser:
    """D(x, level, context) -> x0: a network with its preconditioner."""

    def __init__(self, network: Network, preconditioner: Preconditioner) -> None:
        self.network, self.preconditioner = network, preconditioner

    def __call__(self, x: Tensor, level: Tensor, context: Any, prepared: Any = None) -> Tensor:
        """Estimate of the clean plan, (B, T, A)."""
        c_in, c_skip, c_out = self.preconditioner.coefficients(level)
        return c_skip * x + c_out * self.network(c_in * x, level, context, prepared).to(x.dtype)

    def bind(
        self, context: Any, clip: float | None = None, table: LevelTable | None = None
    ) -> BoundDenoiser:
        """Fix the context (and the table of levels) for one plan."""
        if table is not None:
            self.network.check_table(table)
        return BoundDenoiser(self, context, clip, table)


class BoundDenoiser:
    """A denoiser for one observation: clips x0 to [-clip, clip] and counts its evaluations per row."""

    def __init__(
        self, denoiser: Denoiser, context: Any, clip: float | None, table: LevelTable | None
    ) -> None:
        self.denoiser, self.context, self.clip, self.table = denoiser, context, clip, table
        self.step: int | None = None
        self._nfe: Tensor | None = None

    @property
    def nfe(self) -> Tensor:
        """Evaluations of each row, (B,); asked for after the first one."""
        assert self._nfe is not None, "nothing was evaluated yet"
        return self._nfe

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """x0 estimate (B, T, A) at levels (B, T); a row all clean costs it no evaluation."""
        worked = (level > 0).any(1).long()  # (B,)
        if self._nfe is None:
            self._nfe = worked
        else:
            self._nfe = self._nfe + worked
        if self.table is None or self.step is None:
            prepared = None
        else:
            prepared = self.table.at(self.step)
        x0 = self.denoiser(x, level, self.context, prepared)
        if self.clip is None:
            return x0
        return x0.clamp(-self.clip, self.clip)
