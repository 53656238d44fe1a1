"""Randomness per row: a row draws by its own seed and counters, whatever the rows beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...seeds import draw_plan_noise
from ...spec import IntArray


class RowNoise:
    """Standard normal noise for R rows, by a counter-based generator.

    The key is the row's seed, the counter its number of plans and of draws. A row that is there
    several times draws apart from itself by its `branches` (R,), streams of the same seed; None is
    stream 0 for all.
    """

    def __init__(
        self,
        seeds: IntArray | Sequence[int],
        plans: IntArray | Sequence[int],
        device: torch.device | str = "cpu",
        branches: IntArray | None = None,
    ) -> None:
        self.seeds = np.asarray(seeds, np.uint64)
        self.plans = np.asarray(plans, np.uint64)
        self.device = device
        if branches is None:
            self.branches = np.zeros_like(self.seeds)
        else:
            self.branches = np.asarray(branches, np.uint64)
        self.draws = 0

    def normal(self, *shape: int) -> Tensor:
        """The next draw of every row, (R, *shape) float32."""
        drawn = draw_plan_noise(self.seeds, self.plans, self.branches, self.draws, shape)
        self.draws += 1
        return torch.from_numpy(drawn).to(self.device)

    def restart(self) -> RowNoise:
        """The same noise from its first draw on."""
        return RowNoise(self.seeds, self.plans, self.device, self.branches)

    def take(self, rows: IntArray) -> RowNoise:
        """The noise of some rows (R',) alone, from its first draw on."""
        return RowNoise(self.seeds[rows], self.plans[rows], self.device, self.branches[rows])

    def branch(self, copies: int, first: int = 0) -> RowNoise:
        """Every row `copies` times in a row, on its streams `first`, `first` + 1, ..."""
        rows = np.repeat(np.arange(len(self.seeds)), copies)
        streams = np.tile(np.arange(first, first + copies), len(self.seeds))
        return RowNoise(self.seeds[rows], self.plans[rows], self.device, streams)
