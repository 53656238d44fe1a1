"""Diffusion transformer over action tokens: self-attention, cross-attention to the observation's tokens, one level per token.

Each action token carries its own level: the embedding is added to the token, and it modulates the norms through one shared
projection plus a learned offset per layer (PixArt's adaLN-single, 2310.00426, section 2.3), so that a level per token costs
one projection for the whole network. The observation reaches the tokens twice: through cross-attention, and, as in the U-Net,
through a modulation of every layer. Keys, values and those modulations are worked out once per observation.

The MLP's first layer is a convolution over neighbouring action steps: what is next to each other in time belongs together,
which attention has to learn and a U-Net has by construction (BENCHMARKS.md: what was tried). Positions begin as sinusoids about
as large as the embedded actions: begun near zero, the network took five times as many steps to tell the action steps apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from ...spec import ConfigError
from .base import LevelEmbedding, Network, heads_apart, heads_joined, sinusoids

POSITION_SIZE = 0.5


class TemporalLinear(nn.Linear):
    """A convolution over the action tokens, (B, T, E) -> (B, T, E'), as one matrix product of every token's neighbourhood.

    Centred, or reaching back only where it must be causal; zeros lie beyond both ends. On a CPU about four times as fast
    as `nn.Conv1d` at these widths.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, causal: bool) -> None:
        super().__init__(inputs * kernel, outputs)
        self.kernel, self.reach = kernel, (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)

    def forward(self, input: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E')."""
        padded, steps = pad(input, (0, 0, *self.reach)), input.shape[1]
        return super().forward(
            torch.cat([padded[:, i : i + steps] for i in range(self.kernel)], -1)
        )


class Block(nn.Module):
    """Pre-norm block: self-attention, cross-attention, MLP; the first and last are scaled, shifted and gated by the level."""

    def __init__(self, embed: int, heads: int, causal: bool, kernel: int) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_self, self.norm_mlp = (
            nn.LayerNorm(embed, elementwise_affine=False) for _ in range(2)
        )
        self.norm_cross = nn.LayerNorm(embed)
        self.qkv = nn.Linear(embed, 3 * embed)
        self.out_self = nn.Linear(embed, embed)
        self.query = nn.Linear(embed, embed)
        self.key_value = nn.Linear(embed, 2 * embed)
        self.out_cross = nn.Linear(embed, embed)
        if kernel == 1:
            up_projection = nn.Linear(embed, 4 * embed)
        else:
            up_projection = TemporalLinear(embed, 4 * embed, kernel, causal)
        self.mlp = nn.Sequential(up_projection, nn.SiLU(), nn.Linear(4 * embed, embed))
        self.offset = nn.Parameter(torch.zeros(6, embed))

    def context(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, K, E / heads) of the condition tokens."""
        key, value = self.key_value(tokens).chunk(2, -1)
        return heads_apart(key, self.heads), heads_apart(value, self.heads)

    def forward(self, h: Tensor, modulation: Tensor, context: tuple[Tensor, Tensor]) -> Tensor:
        """h (B, T, E), modulation (B or 1, T, 6, E) -> (B, T, E)."""
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = (modulation + self.offset).unbind(-2)
        h = h + gate_a * self._self_attention(self.norm_self(h) * (1 + scale_a) + shift_a)
        query = heads_apart(self.query(self.norm_cross(h)), self.heads)
        h = h + self.out_cross(heads_joined(scaled_dot_product_attention(query, *context)))
        return h + gate_m * self.mlp(self.norm_mlp(h) * (1 + scale_m) + shift_m)

    def _self_attention(self, h: Tensor) -> Tensor:
        query, key, value = (heads_apart(part, self.heads) for part in self.qkv(h).chunk(3, -1))
        return self.out_self(
            heads_joined(scaled_dot_product_attention(query, key, value, is_causal=self.causal))
        )


@dataclass(frozen=True)
class TokenModulation:
    """What the levels do to the tokens: added at the input, (B, T, E), and to the norms of every layer, (B, T, 6, E)."""

    added: Tensor
    norms: Tensor


@dataclass(frozen=True)
class TransformerContext:
    """The observation: keys and values of every layer, and what it does to all tokens alike, at the input and in each layer."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    added: Tensor  # (B, 1, E)
    norms: Tensor  # (B, 1, layers, 6, E)


class DiffusionTransformer(Network):
    """Transformer denoiser.

    `steps` is the longest plan its positions reach, `causal` hides later actions from earlier ones, and `kernel` is the number
    of neighbouring steps that the MLP's convolution sees (1: none but its own).
    """

    def __init__(
        self,
        width: int,
        tokens: int,
        token_width: int,
        embed: int = 128,
        layers: int = 4,
        heads: int = 4,
        steps: int = 64,
        causal: bool = False,
        kernel: int = 3,
        level_width: int = 64,
    ) -> None:
        super().__init__()
        if embed % heads or embed % 2 or embed < 4:
            raise ConfigError(
                f"denoiser.embed ({embed}) must be even, at least 4 and divisible by denoiser.heads ({heads})"
            )
        if kernel < 1 or kernel % 2 == 0:
            raise ConfigError(
                f"denoiser.kernel is {kernel}; it must be odd, and 1 for no convolution"
            )
        self.width, self.embed = width, embed
        self.embedding = LevelEmbedding(level_width, embed)
        self.to_norms = nn.Sequential(nn.Mish(), nn.Linear(embed, 6 * embed))
        self.actions = nn.Linear(width, embed)
        self.position = nn.Parameter(torch.zeros(steps, embed))
        self.observations = nn.Sequential(
            nn.Linear(token_width, embed), nn.Mish(), nn.Linear(embed, embed)
        )
        self.observation_position = nn.Parameter(torch.zeros(tokens, embed))
        self.observation_embedding = nn.Sequential(
            nn.Flatten(),
            nn.Linear(tokens * token_width, 4 * embed),
            nn.SiLU(),
            nn.Linear(4 * embed, 2 * embed),
            nn.SiLU(),
        )
        self.observation_added = nn.Linear(2 * embed, embed)
        self.observation_to_norms = nn.Linear(2 * embed, layers * 6 * embed, bias=False)
        self.blocks = nn.ModuleList(Block(embed, heads, causal, kernel) for _ in range(layers))
        self.norm_out = nn.LayerNorm(embed)
        self.out = nn.Linear(embed, width)
        self._initialise()

    def _initialise(self) -> None:
        """Positions that can be told apart at once, small modulations, open gates."""
        with torch.no_grad():
            self.position.copy_(POSITION_SIZE * sinusoids(len(self.position), self.embed))
            for block in self.blocks:
                block.offset[[2, 5]] = 1.0  # type: ignore[index, operator]
        nn.init.normal_(self.observation_position, std=POSITION_SIZE)
        for projection in (self.to_norms[1], self.observation_to_norms):
            nn.init.normal_(projection.weight, std=0.02)  # type: ignore[arg-type]
        nn.init.zeros_(self.to_norms[1].bias)  # type: ignore[arg-type]

    def encode_context(self, tokens: Tensor) -> TransformerContext:
        """Keys and values of the condition tokens (B, K, E) in every layer, and their modulation."""
        embedded = self.observations(tokens) + self.observation_position
        joined = self.observation_embedding(tokens).unsqueeze(1)  # (B, 1, 2 E)
        norms = self.observation_to_norms(joined).unflatten(-1, (len(self.blocks), 6, self.embed))
        layers = tuple(block.context(embedded) for block in self.blocks)  # type: ignore[operator]
        return TransformerContext(layers, self.observation_added(joined), norms)

    def modulation(self, level: Tensor) -> TokenModulation:
        """What the levels (B, T) do to every token."""
        added = self.embedding(level)  # (B, T, E)
        return TokenModulation(added, self.to_norms(added).unflatten(-1, (6, self.embed)))

    def check_steps(self, steps: int) -> None:
        """A plan must not be longer than the positions reach."""
        if steps > len(self.position):
            raise ConfigError(
                f"horizon.planned is {steps}, but denoiser.steps allows {len(self.position)}: give denoiser.steps={steps}"
            )

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        context: TransformerContext,
        prepared: TokenModulation | None = None,
    ) -> Tensor:
        """F(x (B, T, A), level (B, T), context) -> (B, T, A)."""
        self.check_steps(x.shape[1])
        if prepared is None:
            modulation = self.modulation(level)
        else:
            modulation = prepared
        h = self.actions(x) + self.position[: x.shape[1]] + modulation.added + context.added
        for block, layer, norms in zip(
            self.blocks, context.layers, context.norms.unbind(2), strict=True
        ):
            h = block(h, modulation.norms + norms, layer)
        return self.out(self.norm_out(h))
