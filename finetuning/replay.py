"""What an off-policy method learns from: chunks, what they led to, and a buffer of them.

Letters: N chunks of a rollout, B rows, P chunks in a buffer, F features, C numbers of a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from .rollouts import Rollout


@dataclass(frozen=True)
class Chunks:
    """P executed chunks."""

    tokens: Tensor  # (P, F) condition tokens
    base: Tensor  # (P, C) normalised chunk of the base
    correction: Tensor  # (P, C) what was added to it
    reward: Tensor  # (P,) discounted rewards of this chunk and the following ones
    discount: Tensor  # (P,) of the value of what they led to; 0 where nothing follows
    next_tokens: Tensor  # (P, F)
    next_base: Tensor  # (P, C)

    def __len__(self) -> int:
        return len(self.reward)

    def take(self, index: Tensor | slice) -> Chunks:
        """Some of them."""
        return Chunks(*(getattr(self, part.name)[index] for part in fields(self)))

    def join(self, later: Chunks) -> Chunks:
        """These, and later ones behind them."""
        parts = []
        for part in fields(self):
            parts.append(torch.cat((getattr(self, part.name), getattr(later, part.name))))
        return Chunks(*parts)

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, for a checkpoint; `Chunks(**tensors)` is the way back."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


def link_chunks(
    recorded: Mapping[str, Tensor], rollout: Rollout, discount: float, steps: int
) -> Chunks:
    """The chunks of a rollout with `steps`-step returns.

    `recorded` holds tokens (N, B, F), base (N, B, C) and correction (N, B, C). Returns end early at
    a termination, after which nothing counts. They end early too at the last chunk before a time
    limit or the rollout's end, whose value stands for the rest. Where a chunk was cut off like
    that, what it led to was never planned for, so the chunk itself is left out.
    """
    count, width = rollout.done.shape
    place = np.tile(np.arange(count)[:, None], (1, width))  # (N, B) the chunk to add next
    rows = np.arange(width)
    inside = place < count - 1
    usable = rollout.terminated | (~rollout.done & inside)
    total = np.zeros((count, width))
    factor = np.ones((count, width))
    goes_on = np.ones((count, width), bool)
    for _ in range(steps):
        at = (np.minimum(place, count - 1), rows)
        goes_on &= usable[at]
        total += np.where(goes_on, factor * rollout.reward[at], 0.0)
        follows = np.where(rollout.terminated[at], 0.0, discount)
        factor *= np.where(goes_on, follows, 1.0)
        place += goes_on
    here = np.nonzero(usable)
    there = (np.minimum(place, count - 1)[here], here[1])
    return Chunks(
        tokens=recorded["tokens"][here],
        base=recorded["base"][here],
        correction=recorded["correction"][here],
        reward=torch.as_tensor(total[here], dtype=torch.float32),
        discount=torch.as_tensor(factor[here], dtype=torch.float32),
        next_tokens=recorded["tokens"][there],
        next_base=recorded["base"][there],
    )
