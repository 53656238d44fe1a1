"""Guidance: wraps a bound denoiser and pulls its estimate towards something wanted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoisers.base import take_rows
from .contract import BoundDenoiser
from .schedule import alpha_sigma

Jacobian = Literal["full", "identity"]


class PrefixGuidance:
    """Inpainting of real-time chunking (2506.07339, eq. 2 to 4; Pi-GDM, Song et al. 2023): a plan that agrees with `wanted`.

    x0' = x0 + min(beta sigma, 1 / alpha) J^T W (wanted - x0), with J = d x0 / d x of the variance-preserving variable: the
    paper's flow-matching form, whose weight is min(beta, (1 - t) / (t r^2)) with r^2 = (1 - t)^2 / (t^2 + (1 - t)^2), brought
    over. `identity` takes J of the flow variable for one, which saves the backward pass and pulls the steps one by one.
    """

    def __init__(
        self,
        denoise: BoundDenoiser,
        wanted: Tensor,
        weight: Tensor,
        beta: float,
        jacobian: Jacobian,
        clip: float | None,
    ) -> None:
        """`wanted` (R, T, A), `weight` (R, T) in [0, 1]: 1 on what is frozen, 0 where nothing is wanted."""
        self.denoise, self.wanted, self.weight = denoise, wanted, weight.unsqueeze(-1)
        self.beta, self.jacobian, self.clip = beta, jacobian, clip

    @property
    def step(self) -> int | None:
        """Which step of its grid the denoiser is at."""
        return self.denoise.step

    @step.setter
    def step(self, number: int | None) -> None:
        self.denoise.step = number

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """Estimate of the clean plan, (R, T, A)."""
        if self.jacobian == "full":
            guided = self._full(x, level)
        else:
            guided = self._identity(x, level)
        if self.clip is None:
            return guided
        return guided.clamp(-self.clip, self.clip)

    def _full(self, x: Tensor, level: Tensor) -> Tensor:
        with torch.enable_grad():
            at = x.detach().requires_grad_(True)
            x0 = self.denoise(at, level)
            error = self.weight * (self.wanted - x0.detach())
            (pull,) = torch.autograd.grad(x0, at, error)
        alpha, sigma = alpha_sigma(level.unsqueeze(-1))
        strength = torch.minimum(self.beta * sigma, 1 / alpha.clamp_min(1e-6))
        return x0.detach() + strength * pull

    def _identity(self, x: Tensor, level: Tensor) -> Tensor:
        x0 = self.denoise(x, level)
        share = level.unsqueeze(-1)
        alpha, sigma = alpha_sigma(share)
        strength = share * (1 / (alpha * sigma).clamp_min(1e-6)).clamp_max(self.beta)
        return x0 + strength * self.weight * (self.wanted - x0)


class ClassifierFree:
    """Classifier-free guidance (2207.12598): x0 = u + weight (c - u), c with the instruction, u without.

    At a fixed x the noise estimate is linear in x0, so this is the usual e_u + weight (e_c - e_u). Once a row's c and u lie
    within `agree` of each other (root mean square, normalised units), u is left out for the rest of the plan, row by row; None
    never leaves it out. That is Adaptive Guidance (2312.12487) but for its measure, the cosine of the noise estimates, which
    is 1 at pure noise whatever the network says. With weight 1 u is never asked for.
    """

    def __init__(
        self,
        conditional: BoundDenoiser,
        unconditional: Any,
        weight: float,
        agree: float | None,
        clip: float | None,
    ) -> None:
        self.conditional, self.unconditional = conditional, unconditional
        self.weight, self.agree, self.clip = weight, agree, clip
        self._asking: Tensor | None = None  # (B,) rows whose two estimates still differ
        self._spent: Tensor | None = None

    @property
    def nfe(self) -> Tensor:
        """Evaluations of each row, (B,), with words and without."""
        if self._spent is None:
            return self.conditional.nfe
        return self.conditional.nfe + self._spent

    @property
    def step(self) -> int | None:
        """Which step of its grid the denoiser is at."""
        return self.conditional.step

    @step.setter
    def step(self, number: int | None) -> None:
        self.conditional.step = number

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        """Estimate of the clean plan, (B, T, A)."""
        told = self.conditional(x, level)
        if self.weight != 1:
            if self._asking is None or self._spent is None:
                self._asking = torch.ones(len(x), dtype=torch.bool, device=x.device)
                self._spent = torch.zeros(len(x), dtype=torch.long, device=x.device)
            rows = torch.nonzero(self._asking).flatten()
            if len(rows):
                told = self._led(told, x, level, rows)
        if self.clip is None:
            return told
        return told.clamp(-self.clip, self.clip)

    def _led(self, told: Tensor, x: Tensor, level: Tensor, rows: Tensor) -> Tensor:
        """`told`, in `rows` led away from the estimate without words."""
        assert self._asking is not None and self._spent is not None
        bound = self.conditional.denoiser.bind(
            take_rows(self.unconditional, rows), None, self.conditional.table
        )
        bound.step = self.step
        untold = bound(x[rows], level[rows])
        self._spent[rows] += bound.nfe
        if self.agree is not None:
            self._asking[rows] = (told[rows] - untold).square().flatten(1).mean(
                1
            ).sqrt() > self.agree
        return told.index_put((rows,), untold + self.weight * (told[rows] - untold))


def prefix_weights(
    steps: int, past: int, frozen: Tensor, known: Tensor, fade: Literal["exp", "linear", "hard"]
) -> Tensor:
    """W of real-time chunking, (R, T): 1 up to the frozen steps, falling to 0 at the end of the known ones.

    `frozen` (R,) steps after the `past` ones are sure to be executed; `known` (R,) steps of the previous plan are left.
    The ramp is w = (end - i) / (end - begin + 1) or w (e^w - 1) / (e - 1) (2506.07339, equation 5); `hard` is 0 at once.
    """
    index = torch.arange(steps, device=known.device)
    begin, end = (past + frozen).unsqueeze(1), known.unsqueeze(1)
    ramp = ((end - index) / (end - begin + 1).clamp_min(1)).clamp(0, 1)
    shapes: dict[str, Callable[[Tensor], Tensor]] = {
        "exp": lambda w: w * torch.expm1(w) / (math.e - 1),
        "linear": lambda w: w,
        "hard": torch.zeros_like,
    }
    return torch.where(index < begin, 1.0, shapes[fade](ramp)) * (index < end)
