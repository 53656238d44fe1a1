"""Latents of G categoricals with C classes each, as DreamerV2 and V3 have (2010.02193, 2301.04104).

Distributions are log-probabilities (..., G, C), latents are flat (..., G C).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

UNIMIX = 0.01
"""Share of the uniform distribution in every categorical, so that no KL grows without bound."""


def mix_logits(logits: Tensor, groups: int) -> Tensor:
    """Log-probabilities (..., G, C) of logits (..., G C), mixed with the uniform distribution."""
    shares = logits.unflatten(-1, (groups, -1)).softmax(-1)
    return ((1 - UNIMIX) * shares + UNIMIX / shares.shape[-1]).log()


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
