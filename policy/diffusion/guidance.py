"""Guidance: wraps a bound denoiser and pulls its estimate towards something wanted."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .contract import BoundDenoiser
from .schedule import alpha_sigma

Jacobian = Literal["full", "identity"]
Fade = Literal["exp", "linear", "hard"]


class PrefixGuidance:
    """Inpainting of real-time chunking (2506.07339, eq. 2 to 4; Pi-GDM, Song et al. 2023).

    x0' = x0 + min(beta sigma, 1 / alpha) J^T W (wanted - x0), with J = d x0 / d x of the
    variance-preserving variable: the paper's flow-matching form brought over, whose weight is
    min(beta, (1 - t) / (t r^2)) with r^2 = (1 - t)^2 / (t^2 + (1 - t)^2). `identity` takes J of the
    flow variable for one, which saves the backward pass and pulls the steps one by one.
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
        """`wanted` (R, T, A); `weight` (R, T) is 1 on frozen steps, 0 where nothing is wanted."""
        self.denoise = denoise
        self.wanted = wanted
        self.weight = weight.unsqueeze(-1)
        self.beta = beta
        self.jacobian = jacobian
        self.clip = clip

    def __call__(self, x: Tensor, level: Tensor, step: int | None = None) -> Tensor:
        """Estimate of the clean plan, (R, T, A)."""
        share = level.unsqueeze(-1)
        alpha, sigma = alpha_sigma(share)
        if self.jacobian == "full":
            strength = torch.minimum(self.beta * sigma, 1 / alpha.clamp_min(1e-6))
            x0, pull = self._estimate_and_pull(x, level, step)
            guided = x0 + strength * pull
        else:
            strength = share * (1 / (alpha * sigma).clamp_min(1e-6)).clamp_max(self.beta)
            x0 = self.denoise(x, level, step)
            guided = x0 + strength * self.weight * (self.wanted - x0)
        if self.clip is None:
            return guided
        return guided.clamp(-self.clip, self.clip)

    def _estimate_and_pull(
        self, x: Tensor, level: Tensor, step: int | None
    ) -> tuple[Tensor, Tensor]:
        """x0 and J^T W (wanted - x0), both (R, T, A), without gradients for the weights.

        torch.compile takes the transform of torch.func into its graph and autograd.grad not; run
        directly, autograd.grad gives the same bits in two thirds of the time.
        """
        if torch.compiler.is_compiling():
            found = torch.func.vjp(lambda at: self.denoise(at, level, step), x)
            x0, pull_back = found[0], found[1]
            (pull,) = pull_back(self.weight * (self.wanted - x0))
            return x0, pull
        with torch.enable_grad():
            at = x.detach().requires_grad_(True)
            x0 = self.denoise(at, level, step)
            error = self.weight * (self.wanted - x0.detach())
            (pull,) = torch.autograd.grad(x0, at, error)
        return x0.detach(), pull


class ClassifierFreeDenoiser:
    """Classifier-free guidance (2207.12598): x0 = u + weight (c - u).

    c is the estimate with the instruction, u the one without.

    At a fixed x the noise estimate is linear in x0, so this is the usual e_u + weight (e_c - e_u).
    Once c and u of a row lie within `agree` of each other (root mean square, normalised units), u
    is left out for the rest of its plan; None never leaves it out. That is Adaptive Guidance
    (2312.12487) but for its measure, the cosine of the noise estimates, which is 1 at pure noise
    whatever the network says.

    u is evaluated for all rows or for none, and charged to the rows that still ask for it. When no
    row asks, it is skipped; a compiled loop, which cannot look, evaluates it to the end.
    """

    def __init__(
        self,
        conditional: BoundDenoiser,
        unconditional: BoundDenoiser,
        weight: float,
        agree: float | None,
        clip: float | None,
    ) -> None:
        self.conditional = conditional
        self.unconditional = unconditional
        self.weight = weight
        self.agree = agree
        self.clip = clip
        self.asking: Tensor | None = None
        """(R,) bool: the rows whose two estimates still differ; None before the first step."""

    def __call__(self, x: Tensor, level: Tensor, step: int | None = None) -> Tensor:
        """Estimate of the clean plan, (R, T, A)."""
        x0 = self.conditional(x, level, step)
        if self.asking is None:
            self.asking = torch.ones(len(x), dtype=torch.bool, device=x.device)
        if self.agree is None or torch.compiler.is_compiling() or bool(self.asking.any()):
            x0 = self._guide(x0, self.unconditional(x, level, step), self.asking)
        if self.clip is None:
            return x0
        return x0.clamp(-self.clip, self.clip)

    def _guide(self, conditional: Tensor, unconditional: Tensor, asking: Tensor) -> Tensor:
        """u + weight (c - u) in the rows that ask, else c; both (R, T, A)."""
        self.conditional.count(asking)
        difference = conditional - unconditional
        if self.agree is not None:
            self.asking = asking & (difference.square().flatten(1).mean(1).sqrt() > self.agree)
        guided = unconditional + self.weight * difference
        return torch.where(asking.view(-1, 1, 1), guided, conditional)


def prefix_weights(steps: int, past: int, frozen: Tensor, known: Tensor, fade: Fade) -> Tensor:
    """W of real-time chunking, (R, T): 1 up to the frozen steps, 0 behind the known ones.

    `frozen` (R,) steps after the `past` ones are sure to be executed; `known` (R,) steps of the
    previous plan are left. The ramp is w = (end - i) / (end - begin + 1) or w (e^w - 1) / (e - 1)
    (2506.07339, equation 5); `hard` is 0 at once.
    """
    index = torch.arange(steps, device=known.device)
    begin = (past + frozen).unsqueeze(1)
    end = known.unsqueeze(1)
    ramp = ((end - index) / (end - begin + 1).clamp_min(1)).clamp(0, 1)  # (R, T)
    if fade == "exp":
        ramp = ramp * torch.expm1(ramp) / (math.e - 1)
    elif fade == "hard":
        ramp = torch.zeros_like(ramp)
    return torch.where(index < begin, 1.0, ramp) * (index < end)
