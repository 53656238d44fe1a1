"""Randomness per row: what a row draws depends on its own seed and counters, never on the rows beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...spec import IntArray


class RowNoise:
    """Standard normal noise for chosen rows; the key is the row's seed, the counter its number of plans and of draws."""

    def __init__(
        self, seeds: IntArray | Sequence[int], plans: IntArray | Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        self.seeds, self.plans, self.device = np.asarray(seeds, np.uint64), np.asarray(plans, np.uint64), device
        self.draws = 0

    def normal(self, *shape: int) -> Tensor:
        """The next draw, (R, *shape) float32."""
        rows = [self._row(int(s), int(p), shape) for s, p in zip(self.seeds, self.plans, strict=True)]
        self.draws += 1
        return torch.from_numpy(np.stack(rows)).to(self.device)

    def take(self, rows: IntArray) -> RowNoise:
        """The noise of some rows alone, from its first draw on."""
        return RowNoise(self.seeds[rows], self.plans[rows], self.device)

    def _row(self, seed: int, plan: int, shape: tuple[int, ...]) -> np.ndarray:
        # Philox counts up in its lowest word; plan and draw sit in higher ones, so no two draws overlap.
        bits = np.random.Philox(key=seed, counter=np.array([0, 0, self.draws, plan], np.uint64))
        return np.random.Generator(bits).standard_normal(shape, np.float32)
