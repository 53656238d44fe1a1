"""The words of a task -> one condition token beside those of another encoder."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ...spec import ConfigError, ObsSpec, bytes_to_text, shorten
from ..registry import build
from .sentences import SentenceEmbedding
from .state import StateEncoder

Words = Literal["learned", "sentences"]
STATES = {"_target_": f"{StateEncoder.__module__}.{StateEncoder.__qualname__}"}


class WordEmbedding(nn.Module):
    """A sentence -> (width,): the mean of a learned vector for each of its words, and a linear layer.

    Words find their vectors by a checksum, so that there is no list of words to keep; two words meet in one vector about once
    in `buckets` pairs.
    """

    def __init__(self, width: int, buckets: int = 4096) -> None:
        super().__init__()
        self.buckets = buckets
        self.vectors = nn.EmbeddingBag(buckets, width, mode="mean")
        self.out = nn.Linear(width, width)

    def forward(self, sentences: Sequence[str]) -> Tensor:
        """(n sentences) -> (n, width)."""
        words = []
        for text in sentences:
            words.append(
                [zlib.crc32(word.encode()) % self.buckets for word in text.lower().split()]
            )
        offsets = np.cumsum([0, *(len(each) for each in words)])[:-1]
        device = self.vectors.weight.device
        joined = torch.tensor(
            [number for each in words for number in each], dtype=torch.long, device=device
        )
        return self.out(
            torch.nn.functional.silu(self.vectors(joined, torch.as_tensor(offsets, device=device)))
        )


class Instructed(nn.Module):
    """The tokens of the encoder `base`, and one more for the words in the observation's one key of kind `language`.

    In training a share `dropped` of the rows loses its words, each as a whole: a learned token stands in their place, which
    is what classifier-free guidance leads away from (2207.12598).
    """

    def __init__(
        self,
        obs_spec: ObsSpec,
        observed: int,
        base: Mapping[str, Any] | None = None,
        words: Words = "learned",
        buckets: int = 4096,
        dropped: float = 0.0,
    ) -> None:
        """`base` is the configuration of another encoder; None takes the one of states.

        `words` are read by vectors that are `learned` with the policy, or as `sentences` by a frozen encoder (an extra).
        """
        super().__init__()
        names = [name for name, key in obs_spec.keys.items() if key.kind == "language"]
        if len(names) != 1:
            raise ConfigError(
                f"the encoder reads one instruction, and the observation has {names or 'none'}: name one in task.obs_keys, "
                "or take an encoder without language"
            )
        if not 0 <= dropped < 1:
            raise ConfigError(
                f"encoder.dropped is {dropped}; it must lie in [0, 1), for instance 0.1"
            )
        if words not in get_args(Words):
            raise ConfigError(
                f"encoder.words is {shorten(words)}; choose one of {', '.join(get_args(Words))}"
            )
        self.name, self.dropped = names[0], dropped
        rest = ObsSpec({name: key for name, key in obs_spec.keys.items() if name != self.name})
        self.base = build("encoder", base or STATES, obs_spec=rest, observed=observed)
        self.token_width, self.tokens = self.base.token_width, self.base.tokens + 1
        learned = words == "learned"
        if learned:
            self.words = WordEmbedding(self.token_width, buckets)
        else:
            self.words = SentenceEmbedding(self.token_width)
        self.nothing = nn.Parameter(torch.zeros(self.token_width), requires_grad=dropped > 0)

    def forward(self, observation: Mapping[str, Tensor], words: bool = True) -> Tensor:
        """Observation, key -> (B, To, ...) -> tokens (B, K + 1, E); the words are those of the newest step, or left out."""
        rows = len(observation[self.name])
        if words:
            said = self._said(observation[self.name][:, -1])
        else:
            said = self.nothing.expand(rows, -1)
        if words and self.training and self.dropped:
            said = torch.where(
                torch.rand(rows, 1, device=said.device) < self.dropped, self.nothing, said
            )
        return torch.cat((self.base(observation), said.unsqueeze(1)), 1)

    def _said(self, newest: Tensor) -> Tensor:
        """(B, bytes) -> (B, E); each different sentence is read once."""
        different, which = torch.unique(newest, dim=0, return_inverse=True)
        return self.words([bytes_to_text(each) for each in different.cpu().numpy()])[which]
