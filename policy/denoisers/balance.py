"""What keeps a router's experts all at work, or apart: losses and masks that depend on levels alone."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
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


def windows(place: Tensor, units: int, share: float, bend: float = 4.0) -> Tensor:
    """DTR's task routing (2310.07138, equation 5): which of `units` a level works with, (N, units) of 0 and 1.

    `place` (N,) in [0, 1] rises with the noise. A window of floor(share units) moves over the units as place^bend: hardly
    near clean, fast near pure noise, so that neighbouring levels share most of them.
    """
    width = max(1, int(share * units + 1e-9))
    first = torch.round(place**bend * (units - width)).unsqueeze(-1)  # (N, 1)
    unit = torch.arange(units, device=place.device)
    return ((unit >= first) & (unit < first + width)).to(place.dtype)


def prior_loss(logits: Tensor, place: Tensor, top: int) -> Tensor:
    """Switch-DiT's diffusion prior (2403.09176, section 3.3): routes of near levels are to overlap, those of far ones not.

    logits (L, N, E) at levels `place` (N,), which rise with the noise. The L E experts are matched to the columns of DTR's
    windows, `top` of E wide, so that as few routes as possible change; then the Jensen-Shannon divergence of each level's
    probabilities, averaged over layers, from its window.
    """
    layers, _, experts = logits.shape
    probabilities = logits.softmax(-1).transpose(0, 1).flatten(1)  # (N, L E)
    wanted = windows(place, layers * experts, top / experts)
    chosen = (
        one_hot(logits.topk(top, -1).indices, experts)
        .sum(-2)
        .transpose(0, 1)
        .flatten(1)
        .to(wanted.dtype)
    )
    cost = torch.cdist(
        chosen.T.contiguous(), wanted.T.contiguous(), p=1
    )  # (L E, L E): levels at which the two differ
    _, column = linear_sum_assignment(cost.detach().cpu().numpy())
    target = wanted[:, torch.as_tensor(column, device=wanted.device)]
    return jensen_shannon(probabilities / layers, target / target.sum(-1, keepdim=True)).mean()


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Divergence (N,) of distributions (N, K): 0 where they are the same, ln 2 where they share nothing."""
    middle = ((p + q) / 2).clamp_min(torch.finfo(p.dtype).tiny)

    def part(one: Tensor) -> Tensor:
        return (torch.special.xlogy(one, one) - torch.special.xlogy(one, middle)).sum(-1)

    return (part(p) + part(q)) / 2
