"""Randomness per row: what a row draws depends on its own seed and counters, never on the rows beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...seeds import Purpose, counter_generator
from ...spec import IntArray


class RowNoise:
    """Standard normal noise for chosen rows; the key is the row's seed, the counter its number of plans and of draws.

    A row that is there several times draws apart from itself by its `branches`, streams of the same seed (none: stream 0).
    """

    def __init__(
        self,
        seeds: IntArray | Sequence[int],
        plans: IntArray | Sequence[int],
        device: torch.device | str = "cpu",
        branches: IntArray | None = None,
    ) -> None:
        self.seeds, self.plans, self.device = (
            np.asarray(seeds, np.uint64),
            np.asarray(plans, np.uint64),
            device,
        )
        if branches is None:
            self.branches = np.zeros_like(self.seeds)
        else:
            self.branches = np.asarray(branches, np.uint64)
        self.draws = 0

    def normal(self, *shape: int) -> Tensor:
        """The next draw, (R, *shape) float32."""
        keys = zip(self.seeds, self.plans, self.branches, strict=True)
        rows = [self._row(int(seed), int(plan), int(branch), shape) for seed, plan, branch in keys]
        self.draws += 1
        return torch.from_numpy(np.stack(rows)).to(self.device)

    def take(self, rows: IntArray) -> RowNoise:
        """The noise of some rows alone, from its first draw on."""
        return RowNoise(self.seeds[rows], self.plans[rows], self.device, self.branches[rows])

    def branched(self, copies: int, first: int = 0) -> RowNoise:
        """Every row `copies` times in a row, on its streams `first`, `first` + 1, ..."""
        rows = np.repeat(np.arange(len(self.seeds)), copies)
        streams = np.tile(np.arange(first, first + copies), len(self.seeds))
        return RowNoise(self.seeds[rows], self.plans[rows], self.device, streams)

    def _row(self, seed: int, plan: int, branch: int, shape: tuple[int, ...]) -> np.ndarray:
        generator = counter_generator(seed, Purpose.PLANS, (branch, self.draws, plan))
        return generator.standard_normal(shape, np.float32)
