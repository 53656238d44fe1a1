"""The value of an observation, of the time that is left, and of the plan that is carried."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.model import PolicyModel
from ..policy.samplers.base import Sampler
from ..policy.samplers.fresh import Fresh
from ..policy.state import PolicyState
from ..spec import FloatArray

WIDEST = 5.0
"""Normalised states are clamped to this: outliers shall not decide a value."""


class Critic(nn.Module):
    """V(features (M, F)) -> (M,)."""

    def __init__(self, features: int, hidden: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, hidden),
            nn.Mish(),
            nn.Linear(hidden, hidden),
            nn.Mish(),
            nn.Linear(hidden, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Values (M,)."""
        return self.layers(features).squeeze(-1)


def describe_rows(
    model: PolicyModel,
    sampler: Sampler,
    state: PolicyState,
    observed: Mapping[str, Tensor],
    tokens: Tensor,
    elapsed: FloatArray,
) -> Tensor:
    """Features (B, F) of all rows: states, encoded pictures and words, time, and a carried plan.

    observed: key -> (B, To, ...) in their own units; tokens (B, K, E) are the same, encoded
    """
    parts: list[Tensor] = [torch.as_tensor(np.asarray(elapsed)[:, None], dtype=torch.float32)]
    encoded = False
    for name, key in model.config.obs_spec.keys.items():
        if key.kind == "state":
            normalised = model.normalizer.normalize(name, observed[name])
            parts.append(normalised.flatten(1).clamp(-WIDEST, WIDEST))
        else:
            encoded = True
    if encoded:
        parts.append(tokens.flatten(1))
    if not isinstance(sampler, Fresh):
        carried = torch.as_tensor(state.plan.x)
        parts.append(torch.nan_to_num(carried).flatten(1).clamp(-WIDEST, WIDEST))
        parts.append(torch.as_tensor(state.plan.level))
    return torch.cat([part.float() for part in parts], 1)


def count_features(model: PolicyModel, sampler: Sampler, executed: int | None) -> int:
    """F: what `describe_rows` gives for one row."""
    policy = DiffusionPolicy(model, sampler, executed)
    state = policy.initial_state([0])
    observed = {name: torch.as_tensor(each) for name, each in state.history.items()}
    tokens = model.encode_tokens(observed)
    return describe_rows(model, sampler, state, observed, tokens, np.zeros(1)).shape[1]
