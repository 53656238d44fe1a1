"""What an encoder is: the network that turns observations into condition tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class Encoder(Protocol):
    """A `torch.nn.Module` that turns an observation into K condition tokens of width E.

    Its constructor takes `obs_spec` (what an observation holds), `observed` (To) and options with
    defaults. A package adds one through the entry-point group `hotstart.encoders`.
    """

    tokens: int
    """K, the tokens of an observation."""
    token_width: int
    """E, the numbers of a token."""

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Observation, key -> (B, To, ...), to tokens (B, K, E).

        States come normalised, pictures as uint8 (B, To, height, width, channels), instructions as
        uint8 (B, To, bytes).
        """
        ...
