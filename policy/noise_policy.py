"""A policy over the noise that a fresh plan begins with (FIND, 2407.19453).

The denoiser stays as it is. With a solver that adds no noise of its own, the starting noise decides
which of its plans is made.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Normal

from .residual import cut_chunk

STD_RANGE = (0.05, 2.0)
"""Noise with another standard deviation is none that a denoiser knows."""


class NoisePolicy(nn.Module):
    """p(w | condition tokens): a Gaussian over the starting noise of `steps` action steps.

    These are the ones from `first` on; the others keep standard normal noise. It begins as N(0, 1)
    to the bit.
    """

    def __init__(
        self, features: int, width: int, planned: int, first: int, steps: int, hidden: int = 64
    ) -> None:
        """Build it.

        features: numbers of the condition tokens
        width: A, numbers of an action
        planned: T, action steps of a plan
        """
        super().__init__()
        self.chunk = cut_chunk("noise policy", planned, first, steps)
        self.shape = (steps, width)
        self.layers = nn.Sequential(
            nn.LayerNorm(features, elementwise_affine=False),
            nn.Linear(features, hidden),
            nn.Mish(),
            nn.Linear(hidden, hidden),
            nn.Mish(),
        )
        self.head = nn.Linear(hidden, 2 * steps * width)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Normal:
        """The distribution of the noise (R, steps, A) for condition tokens (R, K, E)."""
        both = self.head(self.layers(tokens.flatten(1)))
        mean, log_std = both.unflatten(1, (2, *self.shape)).unbind(1)
        return Normal(mean, log_std.exp().clamp(*STD_RANGE), validate_args=False)

    def steer(self, tokens: Tensor, noise: Tensor) -> Tensor:
        """Starting noise (R, T, A) from standard normal noise; from zeros its mean."""
        chosen = self(tokens)
        steered = noise.clone()
        steered[:, self.chunk] = chosen.mean + chosen.stddev * noise[:, self.chunk]
        return steered
