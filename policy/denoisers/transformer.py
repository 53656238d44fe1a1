"""Diffusion transformer over action tokens: one noise level per token.

Every action token carries its own level. The level's embedding is added to the token, and it
modulates the norms through one projection that all layers share plus a learned offset per layer
(PixArt's adaLN-single, 2310.00426, section 2.3). A level per token thus costs one projection for
the whole network. The observation reaches the tokens twice: through cross-attention, and, as in the
U-Net, through a modulation of every layer. Its keys, values and modulations are worked out once per
observation.

The MLP's first layer is a convolution over neighbouring action steps: attention has to learn that
neighbours in time belong together, a U-Net has it by construction. Positions start as sinusoids
about as large as the embedded actions. Started near zero, the network took five times as many steps
to tell action steps apart. Both were measured:
docs/notebook/2026-11-23-pusht-human-demonstrations.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from ...spec import ConfigError
from .base import (
    LevelEmbedding,
    ModuleSequence,
    Network,
    check_heads,
    check_positions,
    merge_heads,
    sinusoids,
    split_heads,
)

POSITION_SIZE = 0.5


class TemporalLinear(nn.Linear):
    """A convolution over action tokens, (B, T, E) -> (B, T, E'), as one matrix product.

    The kernel is centred, or reaches back only if `causal`; zeros lie beyond both ends. On a CPU it
    is about four times as fast as `nn.Conv1d` at these widths.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, causal: bool) -> None:
        super().__init__(inputs * kernel, outputs)
        self.kernel = kernel
        self.before = kernel // 2  # steps that the kernel reaches back
        if causal:
            self.before = kernel - 1

    def forward(self, input: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E')."""
        after = self.kernel - 1 - self.before
        padded = pad(input, (0, 0, self.before, after))  # (B, T + kernel - 1, E)
        neighbours = padded.unfold(1, self.kernel, 1)  # (B, T, E, kernel)
        return super().forward(neighbours.transpose(2, 3).flatten(2))


class Block(nn.Module):
    """Pre-norm self-attention, cross-attention and MLP.

    The level scales, shifts and gates the first and the last of the three.
    """

    def __init__(self, embed: int, heads: int, causal: bool, kernel: int) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_self = nn.LayerNorm(embed, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(embed, elementwise_affine=False)
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

    def encode_context(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, K, E / heads) of the condition tokens (B, K, E)."""
        key, value = self.key_value(tokens).chunk(2, -1)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def forward(self, h: Tensor, modulation: Tensor, context: tuple[Tensor, Tensor]) -> Tensor:
        """h (B, T, E), modulation (B or 1, T, 6, E) -> (B, T, E)."""
        attention, mlp = (modulation + self.offset).chunk(2, -2)  # (B or 1, T, 3, E) each
        h = h + _gate(attention) * self._self_attention(_modulate(self.norm_self(h), attention))
        query = split_heads(self.query(self.norm_cross(h)), self.heads)
        h = h + self.out_cross(merge_heads(scaled_dot_product_attention(query, *context)))
        return h + _gate(mlp) * self.mlp(_modulate(self.norm_mlp(h), mlp))

    def _self_attention(self, h: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        qkv = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(*qkv.unbind(), is_causal=self.causal)
        return self.out_self(merge_heads(attended))


def _modulate(h: Tensor, modulation: Tensor) -> Tensor:
    """Scale and shift h (B, T, E) by the first two of a modulation (B or 1, T, 3, E)."""
    return h * (1 + modulation[..., 0, :]) + modulation[..., 1, :]


def _gate(modulation: Tensor) -> Tensor:
    """The last of a modulation (B or 1, T, 3, E), which a residual branch is multiplied by."""
    return modulation[..., 2, :]


@dataclass(frozen=True)
class TokenModulation:
    """What levels do to the tokens: added at the input, and to the norms of every layer."""

    added: Tensor  # (B or 1, T, E)
    norms: Tensor  # (B or 1, T, 6, E)


@dataclass(frozen=True)
class TransformerContext:
    """The observation: keys and values, and what it does to all tokens alike."""

    layers: tuple[tuple[Tensor, Tensor], ...]  # keys and values, (B, heads, K, E / heads) each
    added: Tensor  # (B, 1, E)
    norms: Tensor  # (B, 1, layers, 6, E)


class DiffusionTransformer(Network[TransformerContext, TokenModulation]):
    """Transformer denoiser.

    `steps` is the longest plan that its positions reach. `causal` hides later actions from earlier
    ones. The MLP's convolution sees `kernel` neighbouring steps (1: none but its own).
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
        """Build it with these options.

        embed: width of a token
        layers: layers
        heads: attention heads
        steps: longest plan that the positions reach [ticks]
        causal: whether later actions are hidden from earlier ones
        kernel: neighbouring action steps that the MLP's convolution sees; 1: only its own
        level_width: numbers of the noise level's embedding
        """
        super().__init__()
        check_heads(embed, heads)
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
        self.blocks = ModuleSequence[Block](
            Block(embed, heads, causal, kernel) for _ in range(layers)
        )
        self.norm_out = nn.LayerNorm(embed)
        self.out = nn.Linear(embed, width)
        self._initialise()

    def _initialise(self) -> None:
        """Positions that can be told apart at once, small modulations, open gates."""
        with torch.no_grad():
            self.position.copy_(POSITION_SIZE * sinusoids(len(self.position), self.embed))
            for block in self.blocks:
                block.offset[[2, 5]] = 1.0
        nn.init.normal_(self.observation_position, std=POSITION_SIZE)
        nn.init.normal_(self.to_norms.get_parameter("1.weight"), std=0.02)
        nn.init.normal_(self.observation_to_norms.weight, std=0.02)
        nn.init.zeros_(self.to_norms.get_parameter("1.bias"))

    def encode_context(self, tokens: Tensor) -> TransformerContext:
        """Keys and values of the condition tokens (B, K, E) in every layer; their modulation."""
        embedded = self.observations(tokens) + self.observation_position
        joined = self.observation_embedding(tokens).unsqueeze(1)  # (B, 1, 2 E)
        norms = self.observation_to_norms(joined).unflatten(-1, (len(self.blocks), 6, self.embed))
        layers = tuple(block.encode_context(embedded) for block in self.blocks)
        return TransformerContext(layers, self.observation_added(joined), norms)

    def modulation(self, level: Tensor) -> TokenModulation:
        """What the levels (B, T) do to every token."""
        added = self.embedding(level)  # (B, T, E)
        return TokenModulation(added, self.to_norms(added).unflatten(-1, (6, self.embed)))

    def check_steps(self, steps: int) -> None:
        """Raise ConfigError for a plan that is longer than the positions reach."""
        check_positions(steps, len(self.position))

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
            prepared = self.modulation(level)
        h = self.actions(x) + self.position[: x.shape[1]] + prepared.added + context.added
        for number, block in enumerate(self.blocks):
            norms = prepared.norms + context.norms[:, :, number]  # (B, T, 6, E)
            h = block(h, norms, context.layers[number])
        return self.out(self.norm_out(h))
