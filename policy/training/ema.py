"""Exponential moving average of the weights: what is evaluated and deployed."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class EMA(Generic[Model]):
    """Average of the weights with decay min(most, 1 - (1 + step)^-power).

    Short memory at first, long later: the rule of Diffusion Policy (2303.04137).
    """

    def __init__(self, model: Model, power: float = 0.75, most: float = 0.9999) -> None:
        """Copy `model`; the average is `self.model`, in evaluation mode and without gradients."""
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.power, self.most = power, most

    def decay(self, step: int) -> float:
        """Share of the old average that is kept at `step`; the first step, 0, keeps nothing."""
        return min(self.most, 1 - (1 + step) ** -self.power)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model's weights; buffers are copied."""
        share = 1 - self.decay(step)
        averages: list[Tensor] = [*self.model.parameters()]
        weights: list[Tensor] = [*model.parameters()]
        torch._foreach_lerp_(averages, weights, share)  # pyright: ignore[reportPrivateImportUsage]
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
