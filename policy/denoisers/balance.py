"""Losses that keep a router's experts all at work; they depend on levels alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def balance_loss(logits: Tensor, chosen: Tensor) -> Tensor:
    """E sum_e f_e P_e (Switch Transformer, 2101.03961, equation 4), averaged over layers.

    logits (L, N, E), chosen (L, N, k): f_e is an expert's share of the picks, P_e its mean probability. 1 where all do as
    much, E where one of one is always chosen.
    """
    experts = logits.shape[-1]
    share = one_hot(chosen, experts).to(logits.dtype).mean((1, 2))  # (L, E)
    return experts * (share * logits.softmax(-1).mean(1)).sum(-1).mean()


def router_z_loss(logits: Tensor) -> Tensor:
    """Mean squared log-sum-exp of the raw logits (ST-MoE, 2202.08906, equation 5): holds their size down."""
    return torch.logsumexp(logits, -1).square().mean()
