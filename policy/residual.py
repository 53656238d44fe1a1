"""A small network that corrects the chunk to execute of a frozen policy (ResFiT, 2509.19301).

Only what is handed to the robot is corrected. The plan that a sampler carries on stays what the
base planned: warm starts (RTI) and staircases (SDP) go on from plans that the denoiser knows, and
no correction is added to one before. The correction is made anew from every observation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..spec import ConfigError


class Residual(nn.Module):
    """r(condition tokens, base chunk) in [-scale, scale]; it begins as 0 to the bit.

    It corrects the `steps` action steps of a plan from `first` on. Steps behind them, which a delay
    adds to a chunk, stay the base's.
    """

    def __init__(
        self,
        features: int,
        width: int,
        planned: int,
        first: int,
        steps: int,
        scale: float = 0.1,
        hidden: int = 256,
    ) -> None:
        """Build it.

        features: numbers of the condition tokens
        width: A', numbers of an action
        planned: T, action steps of a plan
        scale: largest correction of a number [normalised units]
        """
        super().__init__()
        if not scale > 0:
            raise ConfigError(f"the residual's scale is {scale}; it must be above 0")
        self.chunk = cut_chunk("residual", planned, first, steps)
        self.shape = (steps, width)
        self.scale = scale
        self.layers = make_layers(features + steps * width, hidden)
        self.head = nn.Linear(hidden, steps * width)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, chunk: Tensor) -> Tensor:
        """Corrections (R, steps, A') of base chunks (R, steps, A'); tokens (R, K, E)."""
        features = torch.cat((tokens.flatten(1), chunk.flatten(1)), 1)
        correction = self.scale * torch.tanh(self.head(self.layers(features)))
        return correction.unflatten(1, self.shape)

    def add(self, plan: Tensor, correction: Tensor) -> Tensor:
        """The normalised plan (R, T, A') with a correction (R, steps, A') of its chunk."""
        corrected = plan.clone()
        corrected[:, self.chunk] += correction
        return corrected


def cut_chunk(part: str, planned: int, first: int, steps: int) -> slice:
    """The `steps` action steps from `first` on that a network is for, of plans of `planned` (T).

    Raises ConfigError, which names the `part`, where plans do not have them.
    """
    if first < 0 or steps < 1 or first + steps > planned:
        raise ConfigError(
            f"the {part} wants {steps} action steps from step {first} on; plans have {planned}"
        )
    return slice(first, first + steps)


def make_layers(inputs: int, hidden: int) -> nn.Sequential:
    """Two layers with layer norm, (M, inputs) -> (M, hidden): of residuals and of their critics."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LayerNorm(hidden),
        nn.Mish(),
        nn.Linear(hidden, hidden),
        nn.LayerNorm(hidden),
        nn.Mish(),
    )
