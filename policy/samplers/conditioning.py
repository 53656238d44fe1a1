"""What samplers ask of a trained model, for the observations of some rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...rows import take_rows
from ...spec import Horizon
from ..diffusion.contract import BoundDenoiser
from ..diffusion.schedule import Schedule
from ..model import PolicyModel


@dataclass(frozen=True)
class ConditionedModel:
    """A model with the observations of R rows, encoded once: a `PlanModel`. Made by `condition`."""

    model: PolicyModel
    horizon: Horizon
    observed: Mapping[str, Tensor]  # key -> (B, To, ...) in their own units
    tokens: Tensor  # (B, K, E) condition tokens
    rows: Tensor  # (R,) which of the B these are
    context: Any  # the network's, of R rows

    @property
    def width(self) -> int:
        """A."""
        return self.model.actions.spec.width

    @property
    def schedule(self) -> Schedule:
        """The model's own."""
        return self.model.schedule

    @property
    def discrete(self) -> Tensor:
        """(A,) bool: the numbers of an action that take two values only."""
        return torch.as_tensor(self.model.actions.discrete, device=self.rows.device)

    @property
    def discrete_size(self) -> float:
        """How far from 0 both values lie, in normalised units."""
        return self.model.actions.discrete_size

    def bind(self, levels: Tensor | None, clip: float | None) -> BoundDenoiser:
        """The denoiser of these rows; levels (S + 1, T) are prepared, see `PlanModel`."""
        denoiser = self.model.denoiser
        return denoiser.bind(self.context, clip, denoiser.prepare(levels))

    def unconditional(self) -> ConditionedModel:
        """The same rows, encoded without the instruction."""
        tokens = self.model.encode_tokens(self.observed, conditional=False)
        context = take_rows(self.model.network.encode_context(tokens), self.rows)
        return replace(self, tokens=tokens, context=context)

    def anchor(self) -> Tensor:
        """(R, T, A): the anchor that the model's head chooses for each row."""
        assert self.model.anchors is not None, "the sampler asks for anchors that were not fitted"
        return self.model.anchors.choose(self.tokens)[self.rows]

    def steer_noise(self, noise: Tensor) -> Tensor:
        """The starting noise (R, T, A) that the model's noise policy makes of `noise`."""
        if self.model.noise_policy is None:
            return noise
        return self.model.noise_policy.steer(self.tokens[self.rows], noise)

    def score(self, plan: Tensor) -> Tensor:
        """The least that the model's values say of the chunk of plans (R, T, A), (R,)."""
        values = self.model.values
        assert values is not None, "the sampler asks for values that were not learned"
        return values(self.tokens[self.rows], plan[:, values.chunk]).amin(1)

    def take(self, rows: Tensor) -> ConditionedModel:
        """Some rows (R',) alone; nothing is encoded again."""
        return replace(self, rows=self.rows[rows], context=take_rows(self.context, rows))


def condition(
    model: PolicyModel, observed: Mapping[str, Tensor], horizon: Horizon | None = None
) -> ConditionedModel:
    """Encode observations, key -> (R, To, ...) in their own units; `horizon` None: the model's."""
    tokens = model.encode_tokens(observed)
    context = model.network.encode_context(tokens)
    rows = torch.arange(len(tokens), device=tokens.device)
    return ConditionedModel(model, horizon or model.config.horizon, observed, tokens, rows, context)
