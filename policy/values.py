"""What it is worth to execute a chunk: an ensemble of small networks that a search ranks plans by.

The minimum over the members is a pessimistic estimate (REDQ, 2101.05982): they were taught by
different shares of the episodes, and differ where these say little. A search that draws many plans
looks for the errors of its judge, and the mean would hand it the largest one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..spec import ConfigError
from .residual import cut_chunk


class ChunkValues(nn.Module):
    """Q_e(condition tokens, chunk): the return that each of M members expects of a chunk.

    The chunk is the `steps` action steps of a plan from `first` on.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        features: int,
        width: int,
        planned: int,
        first: int,
        steps: int,
        members: int = 5,
        hidden: int = 128,
    ) -> None:
        """Build it.

        features: numbers of the condition tokens
        width: A', numbers of an action
        planned: T, action steps of a plan
        members: M
        """
        super().__init__()
        if members < 1:
            raise ConfigError(f"the value ensemble has {members} members; one at least is wanted")
        self.chunk = cut_chunk("value ensemble", planned, first, steps)
        self.members = members
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.layers = nn.Sequential(
            MemberLinear(members, features + steps * width, hidden),
            nn.LayerNorm(hidden, elementwise_affine=False),
            nn.Mish(),
            MemberLinear(members, hidden, hidden),
            nn.LayerNorm(hidden, elementwise_affine=False),
            nn.Mish(),
            MemberLinear(members, hidden, 1),
        )

    def forward(self, tokens: Tensor, chunk: Tensor) -> Tensor:
        """Returns (R, M) of normalised chunks (R, steps, A'); tokens (R, K, E)."""
        features = torch.cat((tokens.flatten(1), chunk.flatten(1)), 1)
        said = self.layers(features.expand(self.members, -1, -1))  # (M, R, 1)
        return self.mean + self.scale * said.squeeze(2).transpose(0, 1)

    def fit_scale(self, returns: Tensor) -> None:
        """Let the layers say returns in standard deviations of these (P,), from their mean."""
        self.mean.copy_(returns.mean())
        self.scale.copy_(returns.std(correction=0).clamp_min(1e-6))


class MemberLinear(nn.Module):
    """A linear layer of each member, (M, R, inputs) -> (M, R, outputs), in one product."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        limit = inputs**-0.5  # as nn.Linear begins
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """What each member makes of its part of x."""
        return torch.baddbmm(self.bias, x, self.weight)
