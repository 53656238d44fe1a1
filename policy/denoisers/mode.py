"""MoDE: a transformer whose experts are chosen by the noise level (Mixture of Denoising Experts, 2412.12953).

Condition tokens form a prefix without noise: they pass through the same layers once per observation, with an embedding of
their own in the level's place, and leave a key and a value in every layer. Action tokens carry their own level. A layer is

    x <- x + Attention(RMS(x) + phi)        phi: embedding of the token's level ("noise-conditioned self-attention")
    x <- x + sum_e p_e(phi) Expert_e(RMS(x))

both pre-norm, unlike the published code, which normalises the residual stream itself. What the routers choose depends on
levels alone and stands in the LevelTable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ...spec import ConfigError
from .balance import balance_loss, prior_loss, router_z_loss, windows
from .base import (
    Health,
    LevelEmbedding,
    ModuleSequence,
    Network,
    heads_apart,
    heads_joined,
    sinusoids,
)
from .experts import Dispatch, Experts, Router, Routes, check_routing, choose, dispatches

POSITION_SIZE = 0.5
LEVELS_WATCHED = 64
"""Levels at which the use of experts is looked at while training."""
UNUSED = 0.01
"""Share of a layer's work below which an expert counts as unused."""


@dataclass(frozen=True)
class ModeModulation:
    """Levels that are the same in every row: embedding (1, T, E), what each layer's experts do, and the channels in use."""

    added: Tensor
    plans: tuple[tuple[Dispatch, ...], ...]
    window: Tensor | None  # (1, T, E) of 0 and 1; None: all


@dataclass(frozen=True)
class ModeContext:
    """Keys and values of the condition tokens in every layer, (B, heads, K, E / heads) each."""

    layers: tuple[tuple[Tensor, Tensor], ...]


class Block(nn.Module):
    """Noise-conditioned self-attention with normalised queries and keys, then routed experts."""

    def __init__(self, embed: int, heads: int, experts: int, top: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.top = heads, top
        self.norm_attention, self.norm_experts = nn.RMSNorm(embed, 1e-6), nn.RMSNorm(embed, 1e-6)
        self.norm_query, self.norm_key = (
            nn.RMSNorm(embed // heads, 1e-6),
            nn.RMSNorm(embed // heads, 1e-6),
        )
        self.qkv = nn.Linear(embed, 3 * embed)
        self.out = nn.Linear(embed, embed, bias=False)
        self.router = Router(embed, experts)
        self.experts = Experts(embed, experts, hidden)

    def attend(
        self, h: Tensor, phi: Tensor, prefix: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        """h (B, T, E) after attention, and the keys and values of its own tokens."""
        parts = (
            heads_apart(part, self.heads)
            for part in self.qkv(self.norm_attention(h) + phi.to(h.dtype)).chunk(3, -1)
        )
        query, key, value = parts
        query, key = self.norm_query(query), self.norm_key(key)
        if prefix is None:
            keys, values = (key, value)
        else:
            keys, values = (torch.cat(pair, 2) for pair in zip(prefix, (key, value), strict=True))
        return (
            h + self.out(heads_joined(scaled_dot_product_attention(query, keys, values, mask))),
            key,
            value,
        )

    def planned(self, h: Tensor, plan: tuple[Dispatch, ...]) -> Tensor:
        """The experts' part by routes that stand fast."""
        return h + self.experts.apply_dispatch(self.norm_experts(h), plan)

    def routed(self, h: Tensor, routes: Routes) -> Tensor:
        """The experts' part by routes (B, T, k) of each token's own."""
        flat = Routes(routes.expert.flatten(0, -2), routes.weight.flatten(0, -2))
        return h + self.experts.sorted(self.norm_experts(h).flatten(0, 1), flat).view_as(h)


class ModeTransformer(Network):
    """Mixture-of-experts transformer denoiser.

    `top` of `experts` networks of `hidden` numbers work on a token in every layer; 1 of 1 is a dense network. `causal` hides
    later actions from earlier ones. In training the likeliest experts are taken, as in evaluation; with `stochastic_routing` they are drawn
    by their probabilities as in the paper, once for each level of a row and once a batch for the condition tokens, which costs
    success (measured: BENCHMARKS.md). `balance`, `router_z` and `prior` weigh the auxiliary losses (see balance.py). With
    `shared` below 1 a token's layers read that share of its channels only, DTR's window of its level, and the others pass by
    (2310.07138).
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
        super().__init__()
        if embed % heads or embed % 2 or embed < 4:
            raise ConfigError(
                f"denoiser.embed ({embed}) must be even, at least 4 and divisible by denoiser.heads ({heads})"
            )
        check_routing(experts, top)
        if min(balance, router_z, prior) < 0:
            raise ConfigError(
                f"denoiser.balance is {balance}, router_z {router_z} and prior {prior}; 0 or more are wanted"
            )
        if not 0 < shared <= 1:
            raise ConfigError(
                f"denoiser.shared is {shared}; a share of the channels above 0 and at most 1 is wanted"
            )
        self.width, self.causal, self.stochastic_routing, self.top = (
            width,
            causal,
            stochastic_routing,
            top,
        )
        self.balance, self.router_z, self.prior, self.shared = balance, router_z, prior, shared
        self.embedding = LevelEmbedding(level_width, embed)
        self.actions = nn.Linear(width, embed)
        self.position = nn.Parameter(POSITION_SIZE * sinusoids(steps, embed))
        self.conditions = nn.Linear(token_width, embed)
        self.condition_position = nn.Parameter(POSITION_SIZE * torch.randn(tokens, embed))
        self.condition_phi = nn.Parameter(0.02 * torch.randn(embed))
        sizes = {"experts": experts, "top": top, "hidden": hidden or 4 * embed}
        self.blocks = ModuleSequence[Block](Block(embed, heads, **sizes) for _ in range(layers))
        self.norm_out = nn.RMSNorm(embed, 1e-6)
        self.out = nn.Linear(embed, width)
        self._kept: (
            tuple[tuple[int, tuple[int, int], int], tuple[tuple[Dispatch, ...], ...]] | None
        ) = None

    def set_precision(self, dtype: torch.dtype) -> Self:
        """Hold and multiply the layers' weights in `dtype`; what depends on levels (embedding, routers) stays in float32."""
        kept = {id(self.condition_phi)}
        for module in self.modules():
            if isinstance(module, LevelEmbedding | Router):
                kept |= {id(weight) for weight in module.parameters()}
        with torch.no_grad():
            for weight in self.parameters():
                if id(weight) not in kept:
                    weight.data = weight.data.to(dtype)
        self.note_written()
        return self

    @property
    def active_count(self) -> int:
        """Weights that work on one token: `top` of every layer's experts."""
        experts = [weight for block in self.blocks for weight in block.experts.parameters()]
        return super().active_count - sum(
            weight.numel() // len(weight) * (len(weight) - self.top) for weight in experts
        )

    def decayed_parameters(self) -> list[nn.Parameter]:
        """The base class's, and the experts' stacked matrices."""
        decayed = super().decayed_parameters()
        for block in self.blocks:
            decayed += [block.experts.up_projection, block.experts.down_projection]
        return decayed

    def encode_context(self, tokens: Tensor) -> ModeContext:
        """Take the condition tokens (B, K, E) through all layers and keep their keys and values."""
        h, phi, layers = (
            self.conditions(tokens.to(self.position)) + self.condition_position,
            self.condition_phi,
            [],
        )
        if torch.is_grad_enabled():
            plans = None
        else:
            plans = self._condition_plans(tokens.shape[1])
        for number, block in enumerate(self.blocks):
            h, key, value = block.attend(h, phi, None, None)
            layers.append((key, value))
            if number + 1 < len(self.blocks):
                h = (
                    self._drawn_experts(block, h)
                    if plans is None
                    else block.planned(h, plans[number])
                )
        return ModeContext(tuple(layers))

    def _condition_plans(self, tokens: int) -> tuple[tuple[Dispatch, ...], ...]:
        """The condition tokens' routes in every layer; they stand fast, and are kept while the weights are the same."""
        now = (self.serial, self.weights_version, tokens)
        if self._kept is None or self._kept[0] != now:
            chosen = (
                choose(block.router(self.condition_phi), self.top, False) for block in self.blocks
            )
            wide = (
                Routes(r.expert.expand(tokens, -1), r.weight.expand(tokens, -1)) for r in chosen
            )
            self._kept = now, tuple(dispatches(routes) for routes in wide)
        return self._kept[1]

    def _drawn_experts(self, block: Block, h: Tensor) -> Tensor:
        routes = choose(
            block.router(self.condition_phi), self.top, self.training and self.stochastic_routing
        )  # (k,)
        shape = (*h.shape[:2], self.top)
        return block.routed(h, Routes(routes.expert.expand(shape), routes.weight.expand(shape)))

    def modulation(self, level: Tensor) -> ModeModulation:
        """Embedding and routes of levels (1, T) that are the same in every row."""
        phi = self.embedding(level)  # (1, T, E)
        chosen = (choose(block.router(phi[0]), self.top, False) for block in self.blocks)
        return ModeModulation(
            phi, tuple(dispatches(routes) for routes in chosen), self._window(level, phi)
        )

    def _window(self, level: Tensor, phi: Tensor) -> Tensor | None:
        """Channels (B, T, E) that tokens of these levels work with."""
        if self.shared == 1:
            return None
        return windows(level.flatten(), phi.shape[-1], self.shared).view_as(phi)

    def check_steps(self, steps: int) -> None:
        """A plan must not be longer than the positions reach."""
        if steps > len(self.position):
            raise ConfigError(
                f"horizon.planned is {steps}, but denoiser.steps allows {len(self.position)}: give denoiser.steps={steps}"
            )

    def forward(
        self, x: Tensor, level: Tensor, context: ModeContext, prepared: ModeModulation | None = None
    ) -> Tensor:
        """F(x (B, T, A), level (B, T), context) -> (B, T, A)."""
        steps = x.shape[1]
        self.check_steps(steps)
        if prepared is None:
            phi = self.embedding(level)
        else:
            phi = prepared.added
        if prepared is None:
            routes = self._routes(level, phi)
        else:
            routes = ()
        if prepared is None:
            window = self._window(level, phi)
        else:
            window = prepared.window
        h = self.actions(x.to(self.position)) + self.position[:steps]
        mask = self._mask(steps, context)
        for number, (block, prefix) in enumerate(zip(self.blocks, context.layers, strict=True)):
            if window is None:
                passed = None
            else:
                passed = (1 - window.to(h.dtype)) * h
            if window is None:
                h = h
            else:
                h = window.to(h.dtype) * h
            h, *_ = block.attend(h, phi, prefix, mask)
            h = (
                block.routed(h, routes[number])
                if prepared is None
                else block.planned(h, prepared.plans[number])
            )
            if passed is None:
                h = h
            else:
                h = h + passed
        return self.out(self.norm_out(h))

    def _mask(self, steps: int, context: ModeContext) -> Tensor | None:
        """Who sees whom, (T, K + T) bool: every action all conditions, and the actions up to itself."""
        if not self.causal:
            return None
        prefix = context.layers[0][0].shape[2]
        return torch.ones(
            steps, prefix + steps, dtype=torch.bool, device=self.position.device
        ).tril(prefix)

    def _routes(self, level: Tensor, phi: Tensor) -> list[Routes]:
        """Every layer's routes (B, T, k); tokens of a row that share a level share its draw."""
        return [self._route(level, block.router(phi)) for block in self.blocks]

    def _route(self, level: Tensor, logits: Tensor) -> Routes:
        sample = self.training and self.stochastic_routing
        routes = choose(logits, self.top, sample, by_row=True)
        if not (self.training and self.stochastic_routing):
            return routes
        leader = (
            (level.unsqueeze(2) == level.unsqueeze(1)).long().argmax(2, keepdim=True)
        )  # (B, T, 1) first token of that level
        leader = leader.expand(-1, -1, self.top)
        return Routes(routes.expert.gather(1, leader), routes.weight.gather(1, leader))

    @torch.no_grad()
    def expert_use(self, level: Tensor) -> Tensor:
        """How much each expert works at levels (N,): its weight where it is chosen, (L, N, experts)."""
        phi, use = self.embedding(level), []  # (N, E)
        for block in self.blocks:
            logits = block.router(phi)  # (N, experts)
            routes = choose(logits, self.top, False)
            use.append(torch.zeros_like(logits).scatter(1, routes.expert, routes.weight))
        return torch.stack(use).cpu()

    def health(self) -> Health:
        """Each expert's share of the work over all levels, and which layers leave experts out at every level."""
        use = self.expert_use(
            torch.linspace(0.01, 0.99, LEVELS_WATCHED, device=self.position.device)
        ).mean(1)  # (L, experts)
        numbers = {
            f"experts/layer{i + 1}/{e + 1}": float(use[i, e])
            for i in range(len(use))
            for e in range(use.shape[1])
        }
        unused = (use < UNUSED).sum(1)
        collapsed = [
            f"layer {i + 1} uses {use.shape[1] - int(n)} of {use.shape[1]}"
            for i, n in enumerate(unused)
            if n
        ]
        if not collapsed:
            return Health(numbers, None)
        mend = f"raise denoiser.balance ({self.balance:g}), try denoiser.prior=1, or train with fewer experts"
        return Health(
            numbers, f"experts have collapsed: {', '.join(collapsed)} over all noise levels; {mend}"
        )

    def losses(self, level: Tensor) -> dict[str, Tensor]:
        """Load balance, 1 where all experts do as much, the routers' z-loss and the diffusion prior, each weighted."""
        different = level.unique()  # (U,): every level counts once
        used, phi = (
            {},
            torch.cat((self.embedding(different), self.condition_phi.unsqueeze(0))),
        )  # the conditions last
        logits = torch.stack([block.router(phi) for block in self.blocks])
        if self.balance:
            used["balance"] = self.balance * balance_loss(
                logits, choose(logits, self.top, self.training and self.stochastic_routing).expert
            )
        if self.router_z:
            used["router_z"] = self.router_z * router_z_loss(logits)
        if self.prior:
            used["prior"] = self.prior * prior_loss(logits[:, :-1], different, self.top)
        return used
