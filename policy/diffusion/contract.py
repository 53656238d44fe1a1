"""The denoiser contract: D(x, level, context) -> x0, whatever the network was trained to predict.

eps, x0, v and EDM preconditioning are settled here and nowhere else, so that training and sampling
cannot disagree.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ...spec import ConfigError, shorten
from ..denoisers.base import LevelTable, Network
from .schedule import alpha_sigma

PREDICTIONS = ("v", "eps", "x0", "edm")
ALPHA_LEAST = 1e-4
"""An eps-network says nothing about x0 at pure noise; alpha is held above this there."""
TABLES = 4
"""Level tables that a denoiser keeps: a sampler has two grids, for first and for later plans."""


class Scales(NamedTuple):
    """x0 = c_skip x + c_out F(c_in x) with a network F; (B, T, 1) each."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor


class Preconditioner:
    """Scales in and out of a network, per action step; x is the variance-preserving variable.

    v: v = alpha eps - sigma x0 (2202.00512, appendix D). edm: c_skip, c_out, c_in of 2206.00364,
    table 1, for data of standard deviation `sigma_data`, written for x = alpha x0 + sigma eps.
    """

    def __init__(self, prediction: str = "v", sigma_data: float = 0.5) -> None:
        if prediction not in PREDICTIONS:
            raise ConfigError(
                f"prediction is {shorten(prediction)}; choose one of {', '.join(PREDICTIONS)}"
            )
        self.prediction = prediction
        self.sigma_data = sigma_data

    def coefficients(self, level: Tensor) -> Scales:
        """The scales at levels (B, T)."""
        alpha, sigma = alpha_sigma(level.unsqueeze(-1))
        one = torch.ones_like(alpha)
        if self.prediction == "v":
            return Scales(one, alpha, -sigma)
        if self.prediction == "x0":
            return Scales(one, torch.zeros_like(one), one)
        if self.prediction == "eps":
            alpha = alpha.clamp_min(ALPHA_LEAST)
            return Scales(one, 1 / alpha, -sigma / alpha)
        variance = sigma**2 + (alpha * self.sigma_data) ** 2  # of x
        c_in = 1 / variance.sqrt()
        c_skip = alpha * self.sigma_data**2 / variance
        c_out = sigma * self.sigma_data / variance.sqrt()
        return Scales(c_in, c_skip, c_out)

    def error(self, predicted_x0: Tensor, x0: Tensor, level: Tensor) -> Tensor:
        """Error of the network's own output (v, eps, x0 or EDM's F) at a common noisy x, (B, T, A).

        It is (predicted_x0 - x0) / c_out. At clean positions c_out may be 0 and nothing is asked of
        the network: the caller leaves them out.
        """
        c_out = self.coefficients(level).c_out
        return (predicted_x0 - x0) / torch.where(c_out.abs() < 1e-6, torch.ones_like(c_out), c_out)


class Denoiser:
    """D(x, level, context) -> x0: a network with its preconditioner."""

    def __init__(self, network: Network, preconditioner: Preconditioner) -> None:
        self.network = network
        self.preconditioner = preconditioner
        self._tables: list[LevelTable] = []  # newest first

    def __call__(self, x: Tensor, level: Tensor, context: Any, prepared: Any = None) -> Tensor:
        """Estimate of the clean plan, (B, T, A), from x (B, T, A) at levels (B, T)."""
        scales = self.preconditioner.coefficients(level)
        output = self.network(scales.c_in * x, level, context, prepared).to(x.dtype)
        return scales.c_skip * x + scales.c_out * output

    def bind(
        self, context: Any, clip: float | None = None, table: LevelTable | None = None
    ) -> BoundDenoiser:
        """Fix the context (and the table of levels) for one plan.

        Raises ConfigError where the table is another network's, or of weights that have changed.
        """
        if table is not None:
            self.network.check_table(table)
        return BoundDenoiser(self, context, clip, table)

    def prepare(self, levels: Tensor | None) -> LevelTable | None:
        """Table of levels (S + 1, T) but the last, made once while the weights stay the same.

        None where there is nothing to prepare: rows with levels of their own, (S + 1, R, T), no
        grid at all, and whenever gradients are enabled, which a table would cut off.
        """
        if levels is None or levels.dim() != 2 or torch.is_grad_enabled():
            return None
        begins, steps = levels[:-1], levels.shape[1]
        for table in self._tables:
            known = table.levels
            same = known.device == levels.device and torch.equal(known, begins)
            if same and table.fits(self.network, steps):
                return table
        table = self.network.prepare(begins, steps)
        self._tables = [table, *self._tables[: TABLES - 1]]
        return table


class GridDenoiser(Protocol):
    """A denoiser of some rows, guided or not, as the sampling loop calls it."""

    def __call__(self, x: Tensor, level: Tensor, step: int | None = None) -> Tensor:
        """Estimate of the clean plan (R, T, A) from x (R, T, A) at levels (R, T).

        `step` is the place of `level` in the grid that the denoiser was bound to; None: in none.
        """
        ...


class BoundDenoiser:
    """A denoiser for the observations of R rows: clips x0 to +-clip and counts evaluations."""

    def __init__(
        self, denoiser: Denoiser, context: Any, clip: float | None, table: LevelTable | None
    ) -> None:
        self.denoiser = denoiser
        self.context = context
        self.clip = clip
        self.table = table
        self.nfe = torch.zeros((), dtype=torch.long)
        """Evaluations of each row, (R,) after the first one."""

    def __call__(self, x: Tensor, level: Tensor, step: int | None = None) -> Tensor:
        """See GridDenoiser; a row that is clean in all action steps costs no evaluation."""
        self.count((level > 0).any(1))
        if self.table is None or step is None:
            prepared = None
        else:
            prepared = self.table.at(step)
        x0 = self.denoiser(x, level, self.context, prepared)
        if self.clip is None:
            return x0
        return x0.clamp(-self.clip, self.clip)

    def count(self, rows: Tensor) -> None:
        """Charge one evaluation to the rows of a mask (R,)."""
        self.nfe = self.nfe + rows.long()
