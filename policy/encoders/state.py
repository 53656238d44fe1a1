"""State encoder: the numbers of each observed step, joined and embedded, are a condition token."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...spec import ConfigError, ObsSpec


class StateEncoder(nn.Module):
    """All state keys of one observed step -> one token of `token_width` numbers."""

    def __init__(self, obs_spec: ObsSpec, observed: int, token_width: int = 64) -> None:
        """Build it with these options.

        token_width: numbers of the token of an observed step
        """
        super().__init__()
        wrong = [name for name, key in obs_spec.keys.items() if key.kind != "state"]
        if wrong:
            raise ConfigError(
                f"the state encoder reads state keys only, {wrong} are not: leave them out of "
                "task.obs_keys, or take encoder=image for pictures and encoder=language for words; "
                "in Python encoder=hotstart.ImageEncoder or hotstart.InstructionEncoder"
            )
        self.names = tuple(obs_spec.keys)
        self.tokens, self.token_width = observed, token_width
        numbers = sum(int(torch.Size(key.shape).numel()) for key in obs_spec.keys.values())
        self.layers = nn.Sequential(
            nn.Linear(numbers, 4 * token_width), nn.Mish(), nn.Linear(4 * token_width, token_width)
        )

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Normalised observation, key -> (B, To, ...) -> tokens (B, To, E)."""
        return self.layers(torch.cat([observation[name].flatten(2) for name in self.names], -1))
