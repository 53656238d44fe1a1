"""The recurrent state-space model with categorical latents (DreamerV2, 2010.02193; V3, 2301.04104).

A deterministic part h is carried by a GRU, a latent z of G categoricals says what h cannot foresee.
The posterior draws z from h and the observation, a prior from h alone.

Letters: B rows, H width of h, G categoricals of C classes, M members, F numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, silu

UNIMIX = 0.01
"""Share of the uniform distribution in every categorical, so that no KL grows without bound."""


class Heads(nn.Module):
    """M networks of one hidden layer side by side."""

    def __init__(self, members: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Parameter(_draw_weights(members, inputs, hidden))
        self.first_bias = nn.Parameter(torch.zeros(members, 1, hidden))
        self.second = nn.Parameter(_draw_weights(members, hidden, outputs))
        self.second_bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The same (B, F) for all members, or (M, B, F) with rows for each -> (M, B, outputs)."""
        rows = x.expand(len(self.first), *x.shape[-2:])
        hidden = silu(torch.baddbmm(self.first_bias, rows, self.first))
        return torch.baddbmm(self.second_bias, hidden, self.second)


class Recurrence(nn.Module):
    """The GRU, the posterior and the priors of M members on one trunk.

    One trunk is as cheap as one model; the members differ where the data leave the priors open.
    """

    def __init__(
        self, inputs: int, embed: int, hidden: int, groups: int, classes: int, members: int
    ) -> None:
        """`inputs` go in with every step, `embed` numbers describe an observation."""
        super().__init__()
        self.groups, self.classes = groups, classes
        self.width = groups * classes
        self.enter = nn.Sequential(
            nn.Linear(self.width + inputs, hidden), nn.LayerNorm(hidden), nn.SiLU()
        )
        self.cell = nn.GRUCell(hidden, hidden)
        self.posterior_layers = nn.Sequential(
            nn.Linear(hidden + embed, hidden),
            nn.LayerNorm(hidden),
            nn.SiLU(),
            nn.Linear(hidden, self.width),
        )
        self.prior_heads = Heads(members, hidden, hidden, self.width)

    def advance(self, h: Tensor, z: Tensor, inputs: Tensor) -> Tensor:
        """The next h (B, H) from h, z (B, G C) and what goes in (B, F)."""
        return self.cell(self.enter(torch.cat((z, inputs), -1)), h)

    def judge(self, h: Tensor, embedded: Tensor) -> Tensor:
        """Log-probabilities (..., G, C) of the posterior, from h and the observation (..., F)."""
        return self._mix(self.posterior_layers(torch.cat((h, embedded), -1)))

    def foresee(self, h: Tensor) -> Tensor:
        """Log-probabilities (M, B, G, C) of every member's prior, from h (B, H)."""
        return self._mix(self.prior_heads(h))

    def _mix(self, logits: Tensor) -> Tensor:
        shares = logits.unflatten(-1, (self.groups, self.classes)).softmax(-1)
        return ((1 - UNIMIX) * shares + UNIMIX / self.classes).log()


def draw(log_shares: Tensor, generator: torch.Generator) -> Tensor:
    """One class of each categorical (..., G, C), as a straight-through one-hot (..., G C)."""
    uniform = torch.rand(log_shares.shape, generator=generator).clamp_min(1e-20)
    gumbel = -(-uniform.log()).clamp_min(1e-20).log()
    return _choose(log_shares + gumbel.to(log_shares.device), log_shares)


def take_mode(log_shares: Tensor) -> Tensor:
    """The likeliest class of each categorical (..., G, C), straight-through (..., G C)."""
    return _choose(log_shares, log_shares)


def take_mean(log_shares: Tensor) -> Tensor:
    """The expected one-hot of each categorical (..., G, C), flat (..., G C)."""
    return log_shares.exp().flatten(-2)


def kl(log_left: Tensor, log_right: Tensor) -> Tensor:
    """KL divergence between categoricals (..., G, C), summed over the groups [nats]."""
    return (log_left.exp() * (log_left - log_right)).sum((-2, -1))


def balance_kl(posterior: Tensor, prior: Tensor, balance: float, free_nats: float) -> Tensor:
    """KL that moves the prior by `balance` and the posterior by the rest (2010.02193, eq. 2).

    Below `free_nats` neither is moved (2301.04104, eq. 5). Log-probabilities (..., G, C) -> (...).
    """
    towards_posterior = kl(posterior.detach(), prior).clamp_min(free_nats)
    towards_prior = kl(posterior, prior.detach()).clamp_min(free_nats)
    return balance * towards_posterior + (1 - balance) * towards_prior


def symlog(values: Tensor) -> Tensor:
    """sign(x) log(1 + |x|) (2301.04104, eq. 1): far values come nearer, small ones stay."""
    return values.sign() * values.abs().log1p()


def _choose(scores: Tensor, log_shares: Tensor) -> Tensor:
    """One-hot of the highest score; its gradient is that of the probabilities."""
    shares = log_shares.exp()
    chosen = one_hot(scores.argmax(-1), scores.shape[-1]).to(shares)
    return (chosen + shares - shares.detach()).flatten(-2)


def _draw_weights(members: int, inputs: int, outputs: int) -> Tensor:
    bound = 1 / math.sqrt(inputs)
    return torch.empty(members, inputs, outputs).uniform_(-bound, bound)
