"""The order of training windows whose pictures arrive shard by shard from object storage.

Where all windows are shuffled together, a batch asks for as many shards as it has windows. Here the
shards come in a shuffled order, and a window is drawn among those of a few shards: as from a
shuffle buffer. Each epoch takes every window once, and its order depends on seed and epoch alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...datasets.formats.shard_cache import THREADS
from ...datasets.formats.shards import Group, ShardData
from ...datasets.mixture import Mixture
from ...datasets.windows import Windows
from ...seeds import Purpose, numpy_generator
from ...spec import ConfigError, IntArray


class Use(NamedTuple):
    """When a shard is wanted: the places of its first and its last window in an epoch's order."""

    first: int
    last: int
    shard: int


class ShardOrder:
    """Shuffles windows within about `buffer` neighbours, and has their shards fetched ahead."""

    def __init__(
        self, data: ShardData, group: Group, windows: Windows, seed: int, buffer: int, held: bool
    ) -> None:
        """`held` says that the pictures lie in memory, so that no shard is fetched.

        Raises ConfigError where the shards of a buffer do not fit what the cache may take.
        """
        used, self._shard = np.unique(windows.newest // group.rows, return_inverse=True)
        self._shards = [group.shards[number] for number in used]
        self.width = min(math.ceil(buffer * len(used) / max(len(windows), 1)), len(used))
        """Shards among whose windows one is drawn."""
        self.seed = seed
        self._cache = data.cache
        self._held = held
        self._ahead = math.ceil(THREADS * len(windows) / max(len(used), 1))
        self._queue: list[Use] = []
        if not held and data.cache.place.folder is None:
            self._check_cache()

    def shuffle(self, epoch: int) -> Tensor:
        """The order (N,) of the windows in an epoch.

        The k-th shard's windows fall evenly into an interval of `width`, which moves on by one
        from shard to shard; at both ends of the epoch the intervals of `width` shards are the same.
        """
        generator = numpy_generator(self.seed, Purpose.SHUFFLE, epoch)
        count = len(self._shards)
        place = generator.permutation(count)[self._shard]
        begin = np.clip(place - self.width, 0, max(count - 2 * self.width, 0))
        order = np.argsort(begin + self.width * generator.random(len(self._shard)), kind="stable")
        self._queue = self._list_uses(order)
        return torch.from_numpy(order)

    def fetch_ahead(self, place: int) -> None:
        """Begin to fetch the shards of windows soon after a place of the epoch's order."""
        while self._queue and self._queue[0].first <= place + self._ahead:
            use = self._queue.pop(0)
            if use.last >= place and not self._held:
                self._cache.fetch_ahead(self._shards[use.shard])

    def _list_uses(self, order: IntArray) -> list[Use]:
        """When each shard is wanted, by its first window."""
        shards = self._shard[order]
        count = len(self._shards)
        first = np.full(count, len(order))
        last = np.zeros(count, np.int64)
        np.minimum.at(first, shards, np.arange(len(order)))
        np.maximum.at(last, shards, np.arange(len(order)))
        return sorted(map(Use, first.tolist(), last.tolist(), range(count)))

    def _check_cache(self) -> None:
        """At both ends of an epoch two buffers' shards are in use."""
        largest = max((shard.bytes for shard in self._shards), default=0)
        needed = min(2 * self.width + THREADS, len(self._shards)) * largest
        if needed > self._cache.most_bytes:
            raise ConfigError(
                f"training.buffer draws from {self.width} shards at a time, which takes "
                f"{needed / 1e9:.3g} GB on disk; read.cache_gb allows "
                f"{self._cache.most_bytes / 1e9:.3g}: raise it, or lower training.buffer"
            )


def order_shards(
    dataset: object, windows: Windows, seed: int, buffer: int, held: bool
) -> ShardOrder | None:
    """The order of a sharded data set; None where all windows are shuffled together.

    That is so for other data, for shards without pictures, and where the buffer holds every window.
    Raises ConfigError as `ShardOrder` does, and for a mixture with shards that must be streamed.
    """
    if isinstance(dataset, Mixture):
        for name, source in zip(dataset.names, dataset.sources, strict=True):
            if not held and isinstance(source, ShardData) and not source.fits_cache:
                raise ConfigError(
                    f"the shards of {name} do not fit into read.cache_gb, and those of a mixture "
                    "are read at random: raise it, or convert the data set to a store"
                )
        return None
    if not isinstance(dataset, ShardData) or dataset.pictures is None or len(windows) <= buffer:
        return None
    return ShardOrder(dataset, dataset.pictures, windows, seed, buffer, held)
