"""Auxiliary losses of routers: load balance, z-loss and the diffusion prior, with DTR's windows."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import one_hot


def balance_loss(logits: Tensor, chosen: Tensor) -> Tensor:
    """E sum_e f_e P_e (Switch Transformer, 2101.03961, equation 4), averaged over layers.

    logits (L, N, E), chosen (L, N, k): f_e is an expert's share of the picks, P_e its mean
    probability. 1 where all do as much work, E where the same one does it all.
    """
    experts = logits.shape[-1]
    share = one_hot(chosen, experts).to(logits.dtype).mean((1, 2))  # (L, E)
    return experts * (share * logits.softmax(-1).mean(1)).sum(-1).mean()


def router_z_loss(logits: Tensor) -> Tensor:
    """Mean squared log-sum-exp of logits (..., E); keeps them small (2202.08906, equation 5)."""
    return torch.logsumexp(logits, -1).square().mean()


def channel_windows(level: Tensor, units: int, share: float, bend: float = 4.0) -> Tensor:
    """DTR's task routing (2310.07138, equation 5): which of `units` a level works with.

    Levels (N,) in [0, 1] -> (N, units) of 0 and 1. A window of floor(share units) moves over the
    units as level^bend: slowly near clean, fast near pure noise. Neighbouring levels share most of
    their units.
    """
    width = max(1, int(share * units + 1e-9))
    first = torch.round(level**bend * (units - width)).unsqueeze(-1)  # (N, 1)
    unit = torch.arange(units, device=level.device)
    return ((unit >= first) & (unit < first + width)).to(level.dtype)


def prior_loss(logits: Tensor, level: Tensor, top: int) -> Tensor:
    """Switch-DiT's diffusion prior (2403.09176, section 3.3): near levels are to share routes.

    logits (L, N, E) at rising levels (N,). The L E experts are matched to the columns of DTR's
    windows, `top` of E wide, so that as few routes as possible change. The loss is the
    Jensen-Shannon divergence of each level's probabilities, averaged over layers, from its window.
    """
    layers, experts = logits.shape[0], logits.shape[2]
    probabilities = logits.softmax(-1).transpose(0, 1).flatten(1)  # (N, L E)
    wanted = channel_windows(level, layers * experts, top / experts)
    picks = one_hot(logits.topk(top, -1).indices, experts).sum(-2)  # (L, N, E)
    chosen = picks.transpose(0, 1).flatten(1).to(wanted.dtype)  # (N, L E)
    # At how many levels an expert and a column differ, (L E, L E).
    cost = torch.cdist(chosen.T.contiguous(), wanted.T.contiguous(), p=1)
    _, column = linear_sum_assignment(cost.detach().cpu().numpy())
    target = wanted[:, torch.as_tensor(column, device=wanted.device)]
    return jensen_shannon(probabilities / layers, target / target.sum(-1, keepdim=True)).mean()


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence of distributions (N, K) -> (N,) [nat].

    0 where both are the same, ln 2 where they share nothing.
    """
    middle = ((p + q) / 2).clamp_min(torch.finfo(p.dtype).tiny)

    def part(one: Tensor) -> Tensor:
        return (torch.special.xlogy(one, one) - torch.special.xlogy(one, middle)).sum(-1)

    return (part(p) + part(q)) / 2
