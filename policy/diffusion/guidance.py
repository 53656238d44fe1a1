"""Guidance: wraps a bound denoiser and pulls its estimate towards something wanted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

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
        self, denoise: BoundDenoiser, wanted: Tensor, weight: Tensor, beta: float, jacobian: Jacobian, clip: float | None
    ) -> None:
        """`wanted` (R, T, A), `weight` (R, T) in [0, 1]: 1 on what is committed, 0 where nothing is wanted."""
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
        guided = self._full(x, level) if self.jacobian == "full" else self._identity(x, level)
        return guided if self.clip is None else guided.clamp(-self.clip, self.clip)

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


def prefix_weights(steps: int, past: int, committed: Tensor, known: Tensor, fade: Literal["exp", "linear", "hard"]) -> Tensor:
    """W of real-time chunking, (R, T): 1 up to the committed steps, falling to 0 at the end of the known ones.

    `committed` (R,) steps after the `past` ones are sure to be executed; `known` (R,) steps of the previous plan are left.
    The ramp is w = (end - i) / (end - begin + 1) or w (e^w - 1) / (e - 1) (2506.07339, equation 5); `hard` is 0 at once.
    """
    index = torch.arange(steps, device=known.device)
    begin, end = (past + committed).unsqueeze(1), known.unsqueeze(1)
    ramp = ((end - index) / (end - begin + 1).clamp_min(1)).clamp(0, 1)
    shapes: dict[str, Callable[[Tensor], Tensor]] = {
        "exp": lambda w: w * torch.expm1(w) / (math.e - 1),
        "linear": lambda w: w,
        "hard": torch.zeros_like,
    }
    return torch.where(index < begin, 1.0, shapes[fade](ramp)) * (index < end)
