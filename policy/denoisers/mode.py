"""MoDE (2412.12953): a transformer with mixture-of-experts layers, routed by the noise level.

Condition tokens are a prefix without noise. They pass through the layers once per observation, with
a learned embedding in the level's place, and leave a key and a value in every layer. Action tokens
carry a level each. A layer is

    x <- x + Attention(RMS(x) + phi)            noise-conditioned self-attention
    x <- x + sum_e p_e(phi) Expert_e(RMS(x))    phi: embedding of the token's level

Both are pre-norm; the published code normalises the residual stream itself instead. The routers
read levels alone, so that a LevelTable holds what they choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ...spec import ConfigError
from .balance import balance_loss, channel_windows, prior_loss, router_z_loss
from .base import (
    Health,
    LevelEmbedding,
    ModuleSequence,
    Network,
    check_heads,
    check_positions,
    merge_heads,
    sinusoids,
    split_heads,
)
from .experts import (
    Dispatch,
    Experts,
    Router,
    Routes,
    check_routing,
    plan_dispatch,
    select_experts,
)

POSITION_SIZE = 0.5
LEVELS_WATCHED = 64
"""Levels at which `health` looks at the use of experts."""
UNUSED = 0.01
"""Share of a layer's work below which an expert counts as unused."""

KeyValue = tuple[Tensor, Tensor]
"""Keys and values, (B, heads, T, E / heads) each."""
Routing = Routes | tuple[Dispatch, ...]
"""A layer's routes: (B, T, k) of each token's own, or a dispatch that is the same for all rows."""


@dataclass(frozen=True)
class ModeModulation:
    """What levels do: their embedding (B or 1, T, E), every layer's routing, DTR's channels."""

    phi: Tensor
    routing: tuple[Routing, ...]
    window: Tensor | None  # (B or 1, T, E) of 0 and 1; None: all channels


@dataclass(frozen=True)
class ModeContext:
    """Keys and values of the K condition tokens in every layer."""

    layers: tuple[KeyValue, ...]


class Block(nn.Module):
    """Noise-conditioned self-attention with normalised queries and keys, then routed experts."""

    def __init__(self, embed: int, heads: int, experts: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.RMSNorm(embed, 1e-6)
        self.norm_experts = nn.RMSNorm(embed, 1e-6)
        self.norm_query = nn.RMSNorm(embed // heads, 1e-6)
        self.norm_key = nn.RMSNorm(embed // heads, 1e-6)
        self.qkv = nn.Linear(embed, 3 * embed)
        self.out = nn.Linear(embed, embed, bias=False)
        self.router = Router(embed, experts)
        self.experts = Experts(embed, experts, hidden)

    def attend(
        self, h: Tensor, phi: Tensor, prefix: KeyValue | None, mask: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """h (B, T, E) plus its attention over `prefix` and itself (2412.12953, section 3.2).

        Returns (B, T, E), and the keys and values of h's own tokens. `mask` (T, K + T) is True
        where a token sees another.
        """
        embed = h.shape[-1]
        qkv = self.qkv(self.norm_attention(h) + phi.to(h.dtype))
        query, key_value = qkv.split((embed, 2 * embed), -1)
        key, value = key_value.chunk(2, -1)
        query = self.norm_query(split_heads(query, self.heads))
        key = self.norm_key(split_heads(key, self.heads))
        value = split_heads(value, self.heads)
        keys, values = key, value
        if prefix is not None:
            keys = torch.cat((prefix[0], key), 2)
            values = torch.cat((prefix[1], value), 2)
        attended = scaled_dot_product_attention(query, keys, values, mask)
        return h + self.out(merge_heads(attended)), (key, value)

    def apply_experts(self, h: Tensor, routing: Routing) -> Tensor:
        """h (B, T, E) -> (B, T, E): what the chosen experts add."""
        normalised = self.norm_experts(h)
        if isinstance(routing, tuple):
            return h + self.experts.apply_dispatch(normalised, routing)
        routes = Routes(routing.expert.flatten(0, -2), routing.weight.flatten(0, -2))
        return h + self.experts.apply_routes(normalised.flatten(0, 1), routes).view_as(h)


class ModeTransformer(Network[ModeContext, ModeModulation]):
    """Mixture-of-experts transformer denoiser.

    In every layer `top` of `experts` SwiGLU networks, `hidden` wide (0: 4 `embed`), work on a
    token; 1 of 1 is a dense network. `steps` is the longest plan that the positions reach. `causal`
    hides later actions from earlier ones. With `stochastic_routing` experts are drawn by their
    probabilities in training, as in the paper: once for each level of a row, and once a batch for
    the condition tokens. It costs success (docs/notebook/2026-11-25-mode-ten-tasks.md), and the
    default takes the likeliest experts, as evaluation does. `balance`, `router_z` and `prior` weigh
    the auxiliary losses (see balance.py). With `shared` below 1 the layers read that share of a
    token's channels only, DTR's window of its level, and the others pass by (2310.07138,
    equation 5).
    """

    def __init__(
        self,
        width: int,
        tokens: int,
        token_width: int,
        embed: int = 256,
        layers: int = 6,
        heads: int = 8,
        experts: int = 4,
        top: int = 2,
        hidden: int = 0,
        steps: int = 64,
        causal: bool = True,
        stochastic_routing: bool = False,
        balance: float = 0.01,
        router_z: float = 0.0,
        prior: float = 0.0,
        shared: float = 1.0,
        level_width: int = 64,
    ) -> None:
        """Build it with these options.

        embed: width of a token
        layers: layers
        heads: attention heads
        experts: expert networks in each layer
        top: experts that work on a token
        hidden: hidden numbers of an expert; 0: four times embed
        steps: longest plan that the positions reach [ticks]
        causal: whether later actions are hidden from earlier ones
        stochastic_routing: whether experts are drawn at random in training instead of the likeliest
        balance: weight of the loss that spreads the work over the experts
        router_z: weight of the loss on large router logits
        prior: weight of the loss that gives near noise levels the same experts
        shared: share of a token's channels that its layers read, a window of its noise level
        level_width: numbers of the noise level's embedding
        """
        super().__init__()
        check_heads(embed, heads)
        check_routing(experts, top)
        _check_shares(balance, router_z, prior, shared)
        self.width, self.top = width, top
        self.causal, self.stochastic_routing = causal, stochastic_routing
        self.balance, self.router_z = balance, router_z
        self.prior, self.shared = prior, shared
        self.embedding = LevelEmbedding(level_width, embed)
        self.actions = nn.Linear(width, embed)
        self.position = nn.Parameter(POSITION_SIZE * sinusoids(steps, embed))
        self.conditions = nn.Linear(token_width, embed)
        self.condition_position = nn.Parameter(POSITION_SIZE * torch.randn(tokens, embed))
        self.condition_phi = nn.Parameter(0.02 * torch.randn(embed))
        self.blocks = ModuleSequence[Block](
            Block(embed, heads, experts, hidden or 4 * embed) for _ in range(layers)
        )
        self.norm_out = nn.RMSNorm(embed, 1e-6)
        self.out = nn.Linear(embed, width)
        self._condition_key: tuple[int, tuple[int, int], int] | None = None
        self._condition_dispatch: tuple[tuple[Dispatch, ...], ...] = ()

    def set_precision(self, dtype: torch.dtype) -> Self:
        """Hold and multiply the layers in `dtype`; level embedding and routers stay float32."""
        full_precision = {id(self.condition_phi)}
        for module in self.modules():
            if isinstance(module, LevelEmbedding | Router):
                full_precision.update(map(id, module.parameters()))
        for weight in self.parameters():
            if id(weight) not in full_precision:
                weight.data = weight.data.to(dtype)
        self.note_written()
        return self

    @property
    def active_count(self) -> int:
        """Weights that work on one token: `top` of every layer's experts, and all others."""
        count = super().active_count
        for block in self.blocks:
            for weight in block.experts.parameters():
                count -= weight.numel() // len(weight) * (len(weight) - self.top)
        return count

    def decayed_parameters(self) -> list[nn.Parameter]:
        """The base class's, and the experts' stacked matrices."""
        decayed = super().decayed_parameters()
        for block in self.blocks:
            decayed += [block.experts.up_projection, block.experts.down_projection]
        return decayed

    def encode_context(self, tokens: Tensor) -> ModeContext:
        """Keys and values of the condition tokens (B, K, E) in every layer."""
        h = self.conditions(tokens.to(self.position)) + self.condition_position
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            dispatches = None
        else:
            dispatches = self._dispatch_conditions(tokens.shape[1])
        layers = []
        for number, block in enumerate(self.blocks):
            h, key_value = block.attend(h, self.condition_phi, None, None)
            layers.append(key_value)
            if number + 1 == len(self.blocks):
                break  # nobody reads what the last layer's experts would add
            if dispatches is None:
                h = block.apply_experts(h, self._route_conditions(block, h))
            else:
                h = block.apply_experts(h, dispatches[number])
        return ModeContext(tuple(layers))

    def _route_conditions(self, block: Block, h: Tensor) -> Routes:
        """Routes (B, K, k) of the condition tokens h (B, K, E); all tokens take the same."""
        routes = self._select(block.router(self.condition_phi))  # (k,)
        shape = (*h.shape[:2], self.top)
        return Routes(routes.expert.expand(shape), routes.weight.expand(shape))

    def _dispatch_conditions(self, tokens: int) -> tuple[tuple[Dispatch, ...], ...]:
        """Each layer's dispatch of the condition tokens, kept while the weights are the same."""
        key = (self.serial, self.weights_version, tokens)
        if self._condition_key != key:
            dispatches = []
            for block in self.blocks:
                logits = block.router(self.condition_phi).expand(tokens, -1)
                dispatches.append(plan_dispatch(select_experts(logits, self.top, sample=False)))
            self._condition_key, self._condition_dispatch = key, tuple(dispatches)
        return self._condition_dispatch

    def _select(self, logits: Tensor) -> Routes:
        """Experts for logits (..., experts): drawn if training asks for it, else the likeliest."""
        return select_experts(logits, self.top, self.training and self.stochastic_routing)

    def modulation(self, level: Tensor) -> ModeModulation:
        """Embedding, dispatch and channels of levels (1, T) that are the same in every row."""
        phi = self.embedding(level)  # (1, T, E)
        dispatches = []
        for block in self.blocks:
            routes = select_experts(block.router(phi[0]), self.top, sample=False)
            dispatches.append(plan_dispatch(routes))
        return ModeModulation(phi, tuple(dispatches), self._window(level, phi))

    def _modulate_rows(self, level: Tensor) -> ModeModulation:
        """Embedding, routes and channels of levels (B, T) of every row's own."""
        phi = self.embedding(level)  # (B, T, E)
        routes = tuple(self._route(level, block.router(phi)) for block in self.blocks)
        return ModeModulation(phi, routes, self._window(level, phi))

    def _window(self, level: Tensor, phi: Tensor) -> Tensor | None:
        """Channels (B, T, E) that tokens of these levels work with; None: all."""
        if self.shared == 1:
            return None
        window = channel_windows(level.flatten(), phi.shape[-1], self.shared).view_as(phi)
        return window.to(self.position.dtype)

    def _route(self, level: Tensor, logits: Tensor) -> Routes:
        """Routes (B, T, k) for logits (B, T, experts); a row's tokens of one level share a draw."""
        sample = self.training and self.stochastic_routing
        routes = select_experts(logits, self.top, sample, by_row=True)
        if not sample:
            return routes
        same = level.unsqueeze(2) == level.unsqueeze(1)  # (B, T, T)
        leader = same.long().argmax(2, keepdim=True)  # (B, T, 1) first token of that level
        leader = leader.expand(-1, -1, self.top)
        return Routes(routes.expert.gather(1, leader), routes.weight.gather(1, leader))

    def check_steps(self, steps: int) -> None:
        """Raise ConfigError for a plan that is longer than the positions reach."""
        check_positions(steps, len(self.position))

    def forward(
        self, x: Tensor, level: Tensor, context: ModeContext, prepared: ModeModulation | None = None
    ) -> Tensor:
        """F(x (B, T, A), level (B, T), context) -> (B, T, A)."""
        self.check_steps(x.shape[1])
        if prepared is None:
            prepared = self._modulate_rows(level)
        h = self.actions(x.to(self.position)) + self.position[: x.shape[1]]  # (B, T, E)
        mask = self._mask(x.shape[1], context)
        for number, block in enumerate(self.blocks):
            before = h
            if prepared.window is not None:
                h = prepared.window * before
            h, _ = block.attend(h, prepared.phi, context.layers[number], mask)
            h = block.apply_experts(h, prepared.routing[number])
            if prepared.window is not None:
                h = h + (1 - prepared.window) * before
        return self.out(self.norm_out(h))

    def _mask(self, steps: int, context: ModeContext) -> Tensor | None:
        """(T, K + T) bool: every action sees all conditions, and the actions up to itself."""
        if not self.causal:
            return None
        prefix = context.layers[0][0].shape[2]
        shape = (steps, prefix + steps)
        return torch.ones(shape, dtype=torch.bool, device=self.position.device).tril(prefix)

    @torch.no_grad()
    def expert_use(self, level: Tensor) -> Tensor:
        """Levels (N,) -> (layers, N, experts): an expert's weight where it is chosen, else 0."""
        phi = self.embedding(level)  # (N, E)
        use = []
        for block in self.blocks:
            logits = block.router(phi)  # (N, experts)
            routes = select_experts(logits, self.top, sample=False)
            use.append(torch.zeros_like(logits).scatter(1, routes.expert, routes.weight))
        return torch.stack(use).cpu()

    def health(self) -> Health:
        """Each expert's share of the work over all levels; warns of layers that leave some out."""
        levels = torch.linspace(0.01, 0.99, LEVELS_WATCHED, device=self.position.device)
        shares = self.expert_use(levels).mean(1).tolist()  # (layers, experts)
        numbers: dict[str, float] = {}
        collapsed: list[str] = []
        for layer, share in enumerate(shares, 1):
            used = 0
            for expert, part in enumerate(share, 1):
                numbers[f"experts/layer{layer}/{expert}"] = part
                used += part >= UNUSED
            if used < len(share):
                collapsed.append(f"layer {layer} uses {used} of {len(share)}")
        if not collapsed:
            return Health(numbers, None)
        warning = (
            f"experts have collapsed: {', '.join(collapsed)} over all noise levels; raise "
            f"denoiser.balance ({self.balance:g}), try denoiser.prior=1, or train with fewer "
            "experts"
        )
        return Health(numbers, warning)

    def losses(self, level: Tensor) -> dict[str, Tensor]:
        """Load balance, router z-loss and diffusion prior at levels (B, T), each weighted."""
        different = level.unique()  # (U,): every level counts once
        # The condition tokens' embedding comes last.
        phi = torch.cat((self.embedding(different), self.condition_phi.unsqueeze(0)))
        logits = torch.stack([block.router(phi) for block in self.blocks])  # (L, U + 1, experts)
        used = {}
        if self.balance:
            used["balance"] = self.balance * balance_loss(logits, self._select(logits).expert)
        if self.router_z:
            used["router_z"] = self.router_z * router_z_loss(logits)
        if self.prior:
            used["prior"] = self.prior * prior_loss(logits[:, :-1], different, self.top)
        return used


def _check_shares(balance: float, router_z: float, prior: float, shared: float) -> None:
    """Raise ConfigError for weights of losses below 0, and shares of channels that cannot be."""
    if min(balance, router_z, prior) < 0:
        raise ConfigError(
            f"denoiser.balance is {balance}, router_z {router_z} and prior {prior}; 0 or more are "
            "wanted"
        )
    if not 0 < shared <= 1:
        raise ConfigError(
            f"denoiser.shared is {shared}; a share of the channels above 0 and at most 1 is wanted"
        )
