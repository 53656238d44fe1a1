"""Exponential moving average of the weights: what is evaluated and deployed."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """Average with decay min(most, 1 - (1 + step)^-power): short memory at first, long later (Diffusion Policy's rule)."""

    def __init__(self, model: nn.Module, power: float = 0.75, most: float = 0.9999) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.power, self.most = power, most

    def decay(self, step: int) -> float:
        """Share of the old average that is kept at `step` (the first step is 0 and keeps nothing)."""
        return min(self.most, 1 - (1 + step) ** -self.power)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model's weights; buffers are copied."""
        share = 1 - self.decay(step)
        averages, weights = list(self.model.parameters()), list(model.parameters())
        torch._foreach_lerp_(averages, [w.detach() for w in weights], share)
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
