"""Which windows of a mixture a step takes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...datasets.mixture import Mixture
from ...datasets.windows import Windows
from ...seeds import Purpose, torch_seed
from ...spec import DataError, FloatArray


class MixedDraw:
    """Draws the rows of a batch: first the source by its share, then one of its windows.

    Both are drawn with replacement, from seed and step alone, so a run that is resumed goes on with
    the same windows.
    """

    def __init__(self, mixture: Mixture, windows: Windows, seed: int) -> None:
        """Raises DataError where a source that has a share has no window."""
        assert mixture.shares is not None
        ends = np.searchsorted(windows.newest, mixture.step_ends)
        counts = np.diff(ends, prepend=0)
        for name, share, count in zip(mixture.names, mixture.shares, counts, strict=True):
            if share and not count:
                raise DataError(f"{name} has no window, but a share of {share:g} in the mixture")
        self.shares = torch.from_numpy(mixture.shares)
        self.counts = torch.from_numpy(counts)
        self.starts = torch.from_numpy(ends - counts)
        self.seed = seed

    def draw(self, step: int, batch: int) -> Tensor:
        """Numbers (batch,) of the windows that a step takes."""
        seed = torch_seed(self.seed, Purpose.MIXTURE, step)
        generator = torch.Generator().manual_seed(seed)
        source = torch.multinomial(self.shares, batch, replacement=True, generator=generator)
        place = torch.rand(batch, dtype=torch.float64, generator=generator)
        return self.starts[source] + (place * self.counts[source]).long()

    def weigh(self) -> FloatArray:
        """What each window counts, (windows,), so that each source counts its share."""
        return np.repeat((self.shares / self.counts.clamp(min=1)).numpy(), self.counts.numpy())
