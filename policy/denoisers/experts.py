"""Routers and stacked SwiGLU experts of MoDE (2412.12953, section 3.2).

A route depends on a token's level alone. For a grid of levels it is therefore worked out once, as
`Dispatch`: which expert works on which action steps with which weight, in host numbers. Running it
needs neither a gather nor a read from the device. Only where every row has levels of its own, as
in training, are tokens sorted by expert.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from ...spec import ConfigError
from ..training.processes import draw_rows
from .base import is_traced


@dataclass(frozen=True)
class Routes:
    """The experts that each token takes, and their weights, which sum to one over k."""

    expert: Tensor  # (..., k) int64
    weight: Tensor  # (..., k)


@dataclass(frozen=True)
class Dispatch:
    """The action steps that one expert works on."""

    expert: int
    spans: tuple[tuple[int, int], ...]  # runs of neighbouring steps: the first, and past the last
    weight: Tensor  # (n, 1) for the n steps of all spans, or (1, 1) where they share it


class Router(nn.Module):
    """Level embedding (..., E) -> logits of the experts: linear to 2 E, GELU, linear.

    With one expert it has no weights: there is nothing to choose.
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


def select_experts(logits: Tensor, top: int, sample: bool, by_row: bool = False) -> Routes:
    """The `top` likeliest experts of logits (..., experts), or as many drawn without replacement.

    Weights are the chosen experts' probabilities, renormalised. One expert of several keeps its
    probability: a weight that is always 1 would teach the router nothing. Gumbel noise on the
    logits draws without replacement (1903.06059). With `by_row` the first axis holds rows of a
    training batch (see `draw_rows`).
    """
    scores = logits
    if sample and by_row:
        scores = logits + draw_rows(lambda rows: _draw_gumbel(logits, rows), len(logits))
    elif sample:
        scores = logits + _draw_gumbel(logits, len(logits))
    expert = scores.topk(top, -1).indices
    if top == 1 < logits.shape[-1]:
        return Routes(expert, logits.softmax(-1).gather(-1, expert))
    return Routes(expert, logits.gather(-1, expert).softmax(-1))


def _draw_gumbel(like: Tensor, rows: int) -> Tensor:
    """Gumbel noise (rows, ...) for logits of the type and the further axes of `like`."""
    uniform = torch.rand(rows, *like.shape[1:], dtype=like.dtype, device=like.device)
    return -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))


def plan_dispatch(routes: Routes) -> tuple[Dispatch, ...]:
    """Routes (T, k) that are the same in every row, by expert; reads them from the device."""
    dispatches = []
    for expert in routes.expert.unique().tolist():
        steps, pick = (routes.expert == expert).nonzero(as_tuple=True)  # (n,) each
        weight = routes.weight[steps, pick].unsqueeze(1)  # (n, 1)
        if bool((weight == weight[0]).all()):
            weight = weight[:1]
        dispatches.append(Dispatch(expert, find_spans(steps.tolist()), weight))
    return tuple(dispatches)


def find_spans(numbers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Runs of neighbours among rising numbers, each as its first and past its last."""
    spans = []
    first = numbers[0]
    for before, number in pairwise(numbers):
        if number != before + 1:
            spans.append((first, before + 1))
            first = number
    spans.append((first, numbers[-1] + 1))
    return tuple(spans)


def swiglu(h: Tensor, up_projection: Tensor, bias: Tensor, down_projection: Tensor) -> Tensor:
    """h (..., E) -> (..., E): W_down (value * silu(gate)), where (value, gate) = W_up h + b.

    (SwiGLU, 2002.05202.)
    """
    value, gate = linear(h, up_projection, bias).chunk(2, -1)
    return linear(value * silu(gate), down_projection)


class Experts(nn.Module):
    """`count` SwiGLU networks, `hidden` wide, in stacked weights; one expert is a view of them."""

    def __init__(self, embed: int, count: int, hidden: int) -> None:
        super().__init__()
        self.up_projection = nn.Parameter(torch.empty(count, 2 * hidden, embed))
        self.bias = nn.Parameter(torch.empty(count, 2 * hidden))
        self.down_projection = nn.Parameter(torch.empty(count, embed, hidden))
        for weight in (self.up_projection, self.bias):
            nn.init.uniform_(weight, -1 / math.sqrt(embed), 1 / math.sqrt(embed))
        nn.init.uniform_(self.down_projection, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))

    def apply_expert(self, expert: int, h: Tensor) -> Tensor:
        """One expert on h (..., E)."""
        up, down = self.up_projection[expert], self.down_projection[expert]
        return swiglu(h, up, self.bias[expert], down)

    def apply_dispatch(self, h: Tensor, dispatches: Sequence[Dispatch]) -> Tensor:
        """h (B, T, E) by routes that are the same for every row; every expert runs once."""
        if _is_uniform(dispatches, h.shape[1]):
            out = self._apply_weighted(dispatches[0], h)
            for each in dispatches[1:]:
                out = out + self._apply_weighted(each, h)
            return out
        by_step = h.transpose(0, 1).contiguous()  # (T, B, E): spans of steps are views
        out = torch.zeros_like(by_step)
        for each in dispatches:
            own = [by_step[first:last] for first, last in each.spans]
            worked = self._apply_weighted(each, torch.cat(own))  # (n, B, E)
            done = 0
            for first, last in each.spans:
                out[first:last] += worked[done : done + last - first]
                done += last - first
        return out.transpose(0, 1)

    def _apply_weighted(self, dispatch: Dispatch, h: Tensor) -> Tensor:
        """One expert on h (n, B, E), each of the n steps times its weight."""
        worked = self.apply_expert(dispatch.expert, h.flatten(0, 1)).view_as(h)
        return worked.mul_(dispatch.weight.unsqueeze(1).to(h.dtype))

    def apply_routes(self, h: Tensor, routes: Routes) -> Tensor:
        """h (N, E) by routes (N, k) of each token's own: tokens are sorted by expert.

        In a graph the lengths of the sorted parts are not known, and every expert works on every
        token instead.
        """
        if is_traced():
            return self._apply_all(h, routes)
        expert = routes.expert.flatten()  # (N k,)
        order = expert.argsort(stable=True)
        counts = torch.bincount(expert, minlength=len(self.bias)).tolist()
        token = torch.div(order, routes.expert.shape[-1], rounding_mode="floor").split(counts)
        weight = routes.weight.flatten()[order].unsqueeze(-1).to(h.dtype).split(counts)
        out = torch.zeros_like(h)
        for number, weights in enumerate(self._unbind()):
            own = token[number]
            if len(own):
                out.index_add_(0, own, swiglu(h[own], *weights) * weight[number])
        return out

    def _apply_all(self, h: Tensor, routes: Routes) -> Tensor:
        """As `apply_routes`, at the cost of all experts: no shape depends on the routes."""
        chosen = routes.weight.new_zeros(len(h), len(self.bias))
        weight = chosen.scatter(1, routes.expert, routes.weight).to(h.dtype)  # (N, experts)
        out = torch.zeros_like(h)
        for number, weights in enumerate(self._unbind()):
            out = out + swiglu(h, *weights) * weight[:, number : number + 1]
        return out

    def _unbind(self) -> zip[tuple[Tensor, Tensor, Tensor]]:
        """Weights of each expert. Autograd joins their gradients once, not expert by expert."""
        up, down = self.up_projection.unbind(), self.down_projection.unbind()
        return zip(up, self.bias.unbind(), down, strict=True)


def _is_uniform(dispatches: Sequence[Dispatch], steps: int) -> bool:
    """Whether all action steps take the same experts with the same weights."""
    return all(each.spans == ((0, steps),) and len(each.weight) == 1 for each in dispatches)


def check_routing(experts: int, top: int) -> None:
    """Raise ConfigError unless some experts are left out, or there is only one."""
    if not (1 <= top < experts or experts == top == 1):
        raise ConfigError(
            f"denoiser.top is {top} of denoiser.experts {experts}; take at least 1 and fewer than "
            "all, or 1 of 1 for a dense network"
        )
