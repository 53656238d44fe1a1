"""Experts chosen by the noise level: routers, routes and stacked SwiGLU experts (MoDE, 2412.12953, section 3.2).

A route depends on nothing but a token's level, so for a grid of levels it is worked out once: `Share` says, in host numbers,
which expert works on which action tokens with which weight, and running it needs neither a gather nor a look at the device.
Only where every row has levels of its own, as in training, are tokens sorted by expert.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from ...spec import ConfigError
from ..training.processes import draw_rows


@dataclass(frozen=True)
class Routes:
    """Which experts each token takes, (..., k), and with which weights, which sum to one."""

    expert: Tensor  # (..., k) int64
    weight: Tensor  # (..., k)


@dataclass(frozen=True)
class Dispatch:
    """The action tokens that one expert works on: `spans` of neighbours, first and past the last."""

    expert: int
    spans: tuple[tuple[int, int], ...]
    weight: Tensor  # (n, 1) for the n tokens of all spans, or (1, 1) where they share it


class Router(nn.Module):
    """Level embedding (..., E) -> logits of the experts: a linear layer to twice the width, GELU, a linear layer.

    Of one expert there is nothing to choose and nothing to learn.
    """

    def __init__(self, embed: int, experts: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(embed, 2 * embed), nn.GELU(), nn.Linear(2 * embed, experts)
        )
        if experts == 1:
            self.layers = nn.Sequential()
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, embedded: Tensor) -> Tensor:
        """(..., E) -> logits (..., experts), float32."""
        if len(self.layers):
            return self.layers(embedded).float()
        return embedded.new_zeros(*embedded.shape[:-1], 1).float()


def choose(logits: Tensor, top: int, sample: bool, by_row: bool = False) -> Routes:
    """The `top` likeliest experts, or as many drawn without replacement, by logits (..., experts).

    Weights are their probabilities, renormalised. One alone keeps its probability as its weight,
    since from a weight that is always 1 no router can learn. Adding Gumbel noise to logits and
    taking the largest draws without replacement (1903.06059). With `by_row` the first axis holds
    rows of a training batch (see `draw_rows`).
    """
    noise = torch.zeros_like(logits)
    if sample and by_row:
        noise = draw_rows(lambda rows: _draw_gumbel(logits, rows), len(logits))
    elif sample:
        noise = _draw_gumbel(logits, len(logits))
    expert = (logits + noise).topk(top, -1).indices
    if top == 1 < logits.shape[-1]:
        return Routes(expert, logits.softmax(-1).gather(-1, expert))
    return Routes(expert, logits.gather(-1, expert).softmax(-1))


def _draw_gumbel(like: Tensor, rows: int) -> Tensor:
    """Gumbel noise (rows, ...) for logits of the type and the further axes of `like`."""
    uniform = torch.rand(rows, *like.shape[1:], dtype=like.dtype, device=like.device)
    return -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))


def dispatches(routes: Routes) -> tuple[Dispatch, ...]:
    """The routes of T tokens, (T, k), by expert."""
    experts, found = routes.expert.tolist(), []
    for expert in sorted({number for token in experts for number in token}):
        tokens = [step for step, token in enumerate(experts) if expert in token]
        weight = routes.weight[
            tokens, [experts[token].index(expert) for token in tokens]
        ].unsqueeze(1)  # (n, 1)
        same = bool((weight == weight[0]).all())
        found.append(Dispatch(expert, tuple(_spans(tokens)), weight[:1] if same else weight))
    return tuple(found)


def _spans(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of neighbours among rising numbers, each as its first and past its last."""
    # Neighbours share the difference between a number and its place.
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        own = [number for _, number in group]
        yield own[0], own[-1] + 1


def swiglu(h: Tensor, up_projection: Tensor, bias: Tensor, down_projection: Tensor) -> Tensor:
    """One SwiGLU network on h (..., E): N (value * silu(gate)) with (value, gate) = W h + b (2002.05202)."""
    value, gate = linear(h, up_projection, bias).chunk(2, -1)
    return linear(value * silu(gate), down_projection)


class Experts(nn.Module):
    """`count` SwiGLU networks, `hidden` wide, in stacked weights; one expert is a view of them."""

    def __init__(self, embed: int, count: int, hidden: int) -> None:
        super().__init__()
        self.up_projection = nn.Parameter(torch.empty(count, 2 * hidden, embed))
        self.bias = nn.Parameter(torch.empty(count, 2 * hidden))
        self.down_projection = nn.Parameter(torch.empty(count, embed, hidden))
        for weight, inputs in (
            (self.up_projection, embed),
            (self.bias, embed),
            (self.down_projection, hidden),
        ):
            nn.init.uniform_(weight, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))

    def one(self, expert: int, h: Tensor) -> Tensor:
        """What one expert makes of h (..., E)."""
        return swiglu(
            h, self.up_projection[expert], self.bias[expert], self.down_projection[expert]
        )

    def apply_dispatch(self, h: Tensor, plan: Sequence[Dispatch]) -> Tensor:
        """h (B, T, E) by routes that are the same for every row; every expert runs once, whatever its spans."""
        if all(
            (s.spans, len(s.weight)) == (((0, h.shape[1]),), 1) for s in plan
        ):  # one level for all tokens
            flat = h.flatten(0, 1)
            first, *others = (self.one(s.expert, flat).mul_(s.weight[0].to(h.dtype)) for s in plan)
            return sum(others, first).view_as(h)
        by_token = h.transpose(0, 1).contiguous()  # (T, B, E): spans of tokens are views
        out = torch.zeros_like(by_token)
        for share in plan:
            own = [by_token[first:last] for first, last in share.spans]
            made = self.one(
                share.expert, (own[0] if len(own) == 1 else torch.cat(own)).flatten(0, 1)
            )
            made = made.view(-1, *by_token.shape[1:]).mul_(share.weight.unsqueeze(1).to(h.dtype))
            for (first, last), part in zip(
                share.spans, made.split([len(each) for each in own]), strict=True
            ):
                out[first:last] += part
        return out.transpose(0, 1)

    def sorted(self, h: Tensor, routes: Routes) -> Tensor:
        """h (N, E) by routes (N, k) of each token's own."""
        top, out = routes.expert.shape[-1], torch.zeros_like(h)
        order = routes.expert.flatten().argsort(stable=True)  # picks, by expert
        token, weight = (
            torch.div(order, top, rounding_mode="floor"),
            routes.weight.flatten()[order].unsqueeze(-1),
        )
        counts = torch.bincount(routes.expert.flatten(), minlength=len(self.up_projection)).tolist()
        # Taken apart at once: the gradients of all experts are put together once, instead of being added up one by one.
        each = zip(
            self.up_projection.unbind(),
            self.bias.unbind(),
            self.down_projection.unbind(),
            strict=True,
        )
        for weights, own, share in zip(
            each, token.split(counts), weight.split(counts), strict=True
        ):
            if len(own):
                out.index_add_(0, own, swiglu(h[own], *weights) * share.to(h.dtype))
        return out


def check_routing(experts: int, top: int) -> None:
    """Raise ConfigError unless some experts are left out, or there is only one."""
    if not (1 <= top < experts or experts == top == 1):
        raise ConfigError(
            f"denoiser.top is {top} of denoiser.experts {experts}; take at least 1 and fewer than all, or 1 of 1 for a dense "
            "network"
        )
