"""A policy that records what it planned, for methods that learn from executed chunks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..policy.diffusion_policy import DiffusionPolicy
from ..policy.model import PolicyModel
from ..policy.samplers.base import Sampler
from ..spec import IntArray


class RecordingPolicy(DiffusionPolicy):
    """A policy whose `correct_plan` calls `record`; it belongs to one rollout."""

    def __init__(self, model: PolicyModel, sampler: Sampler, executed: int | None) -> None:
        super().__init__(model, sampler, executed)
        self._recorded: list[tuple[IntArray, dict[str, Tensor]]] = []

    def record(self, rows: IntArray, **parts: Tensor) -> None:
        """Keep what belongs to the next chunk of `rows` (R,): name -> (R, ...)."""
        self._recorded.append((rows, parts))

    def join(self, chunks: int, rows: int) -> dict[str, Tensor]:
        """All that was recorded, flattened: name -> (N, B, ...), chunk by chunk of each row."""
        done = np.zeros(rows, np.int64)
        joined: dict[str, Tensor] = {}
        for chosen, recorded in self._recorded:
            for name, values in recorded.items():
                flat = values.flatten(1)
                if name not in joined:
                    joined[name] = torch.zeros(chunks, rows, flat.shape[1])
                joined[name][done[chosen], chosen] = flat
            done[chosen] += 1
        return joined
