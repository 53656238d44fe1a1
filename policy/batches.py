"""Training batches: windows of observations and actions, chosen by seed and step alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..datasets.episodes import Dataset
from ..spec import IntArray
from .model import ModelConfig
from .normalizer import ACTION


class WindowBatches:
    """The batch of step s is the s-th slice of an endless row of shuffles of all windows; each shuffle has its own seed."""

    def __init__(self, dataset: Dataset, config: ModelConfig, index: IntArray, batch: int, seed: int, device: str) -> None:
        self.index = torch.as_tensor(np.asarray(index))  # (N, T)
        self.observed, self.batch, self.seed = config.horizon.observed, batch, seed
        keys = (*config.obs_spec.keys, ACTION)
        self.arrays = {key: torch.as_tensor(np.asarray(dataset.array(key))).to(device) for key in keys}
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """Observation key -> (B, To, ...) and actions (B, T, A), in their own units."""
        return self._of(self.index[self._rows(step)])

    def all(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Every window once, in order, as many at a time as in a batch, with the states of its observation."""
        for first in range(0, len(self.index), self.batch):
            yield self._of(self.index[first : first + self.batch])

    def _of(self, windows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What lies in windows (B, T)."""
        seen = windows[:, : self.observed]  # (B, To)
        observation = {key: self.arrays[key][seen] for key in self.arrays if key != ACTION}
        return observation, self.arrays[ACTION][windows].float()

    def _rows(self, step: int) -> Tensor:
        """Which windows the step takes; shuffles follow each other without a gap, so no window is left out."""
        first = step * self.batch
        places = torch.arange(first, first + self.batch)
        return torch.cat(
            [self._shuffle(int(e))[places[places // len(self.index) == e] % len(self.index)] for e in self._epochs(places)]
        )

    def _epochs(self, places: Tensor) -> Tensor:
        return torch.unique(places // len(self.index))

    def _shuffle(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self.index), generator=generator)
        return self._order
