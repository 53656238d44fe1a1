"""Ensembles of small networks, evaluated as one batch. Letters: E members, B rows, F features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class EnsembleLinear(nn.Module):
    """E linear layers side by side: (E, B, inputs) -> (E, B, outputs)."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        weight = torch.empty(members, inputs, outputs).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """All members on their own rows."""
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleMLP(nn.Module):
    """E networks of `layers` linear layers; those in the middle are residual."""

    def __init__(self, members: int, inputs: int, outputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.members = members
        self.first = EnsembleLinear(members, inputs, hidden)
        middle = [EnsembleLinear(members, hidden, hidden) for _ in range(max(0, layers - 2))]
        self.middle = nn.ModuleList(middle)
        self.last = EnsembleLinear(members, hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(E, B, outputs) of features (E, B, F), or (B, F) that all members see."""
        if x.ndim == 2:
            x = x.expand(self.members, *x.shape)
        x = nn.functional.silu(self.first(x))
        for layer in self.middle:
            x = x + nn.functional.silu(layer(x))
        return self.last(x)


def choose_members(predicted: Tensor, member: Tensor) -> Tensor:
    """Of predictions (E, B, ...) those of each row's own member (B,): (B, ...)."""
    return predicted[member, torch.arange(len(member), device=member.device)]
