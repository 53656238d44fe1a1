"""The instruction of a task -> one condition token, beside those of another encoder."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ...spec import ConfigError, ObsSpec, bytes_to_text, shorten
from ..registry import build, node
from ..training.processes import draw_rows
from .base import Encoder
from .sentences import SentenceEmbedding
from .state import StateEncoder

TextEncoderName = Literal["learned", "sentences"]


class WordEmbedding(nn.Module):
    """A sentence -> (E,): the mean of a learned vector for each of its words, then a linear layer.

    A word's checksum picks its vector (feature hashing, 0902.2206), so there is no vocabulary to
    keep. Two words share a vector about once in `buckets` pairs.
    """

    def __init__(self, width: int, buckets: int = 4096) -> None:
        super().__init__()
        self.buckets = buckets
        self.vectors = nn.EmbeddingBag(buckets, width, mode="mean")
        self.out = nn.Linear(width, width)

    def forward(self, sentences: Sequence[str]) -> Tensor:
        """N sentences -> (N, E)."""
        numbers: list[int] = []
        offsets: list[int] = []
        for text in sentences:
            offsets.append(len(numbers))
            for word in text.lower().split():
                numbers.append(zlib.crc32(word.encode()) % self.buckets)
        device = self.vectors.weight.device
        words = torch.tensor(numbers, dtype=torch.long, device=device)
        means = self.vectors(words, torch.tensor(offsets, device=device))
        return self.out(silu(means))


class InstructionEncoder(nn.Module):
    """The tokens of the encoder `base`, and one more for the observation's key of kind `language`.

    `base` is another encoder, as a class, a `functools.partial` of it or its configuration; None
    takes StateEncoder. `text_encoder`: the
    instruction is read by word vectors that are `learned` with the policy, or as `sentences` by a
    frozen encoder (an extra). In training a learned unconditional token replaces the instruction
    in a share `condition_dropout` of the rows, as classifier-free guidance needs (2207.12598).
    """

    def __init__(
        self,
        obs_spec: ObsSpec,
        observed: int,
        base: Callable[..., Encoder] | Mapping[str, Any] | None = None,
        text_encoder: TextEncoderName = "learned",
        buckets: int = 4096,
        condition_dropout: float = 0.0,
    ) -> None:
        """Build it with these options.

        base: configuration of the encoder of the other observations; none: states
        text_encoder: learned (word vectors trained with the policy) or sentences (frozen, an extra)
        buckets: learned word vectors; words find theirs by a checksum
        condition_dropout: share of training rows whose instruction is left out
        """
        super().__init__()
        _check(text_encoder, condition_dropout)
        self.name = _language_key(obs_spec)
        self.condition_dropout = condition_dropout
        others = dict(obs_spec.keys)
        del others[self.name]
        self.base = build(
            "encoder", node(base or StateEncoder), obs_spec=ObsSpec(others), observed=observed
        )
        self.token_width, self.tokens = self.base.token_width, self.base.tokens + 1
        if text_encoder == "learned":
            self.text_encoder = WordEmbedding(self.token_width, buckets)
        else:
            self.text_encoder = SentenceEmbedding(self.token_width)
        self.unconditional_token = nn.Parameter(
            torch.zeros(self.token_width), requires_grad=condition_dropout > 0
        )

    def forward(self, observation: Mapping[str, Tensor], conditional: bool = True) -> Tensor:
        """Observation, key -> (B, To, ...) -> tokens (B, K + 1, E).

        The newest step's instruction counts; without `conditional` the unconditional token stands
        in its place.
        """
        instruction = observation[self.name][:, -1]  # (B, bytes)
        if conditional:
            token = self._drop_conditions(self._embed(instruction))
        else:
            token = self.unconditional_token.expand(len(instruction), -1)
        return torch.cat((self.base(observation), token.unsqueeze(1)), 1)

    def _drop_conditions(self, token: Tensor) -> Tensor:
        """Put the unconditional token in place of some rows of tokens (B, E), in training only."""
        if not (self.training and self.condition_dropout):
            return token
        uniform = draw_rows(lambda n: torch.rand(n, 1, device=token.device), len(token))
        return torch.where(uniform < self.condition_dropout, self.unconditional_token, token)

    def _embed(self, instruction: Tensor) -> Tensor:
        """Instructions (B, bytes) -> (B, E); each different one is embedded once."""
        different, row = torch.unique(instruction, dim=0, return_inverse=True)
        texts = [bytes_to_text(each) for each in different.cpu().numpy()]
        return self.text_encoder(texts)[row]


def _language_key(obs_spec: ObsSpec) -> str:
    """The one key of kind `language`; raises ConfigError unless there is exactly one."""
    names = [name for name, key in obs_spec.keys.items() if key.kind == "language"]
    if len(names) != 1:
        raise ConfigError(
            f"the encoder reads one instruction, and the observation has {names or 'none'}: name "
            "one in task.obs_keys, or take an encoder without language"
        )
    return names[0]


def _check(text_encoder: str, condition_dropout: float) -> None:
    if not 0 <= condition_dropout < 1:
        raise ConfigError(
            f"encoder.condition_dropout is {condition_dropout}; it must lie in [0, 1), for "
            "instance 0.1"
        )
    if text_encoder not in get_args(TextEncoderName):
        choices = ", ".join(get_args(TextEncoderName))
        raise ConfigError(
            f"encoder.text_encoder is {shorten(text_encoder)}; choose one of {choices}"
        )
