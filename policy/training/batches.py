"""Training batches: windows of observations and actions, chosen by seed and step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ...datasets.episodes import Dataset
from ...datasets.frames import Frames, open_frames
from ...seeds import Purpose, torch_seed
from ...spec import ConfigError, IntArray
from ..model import ModelConfig
from ..normalizer import ACTION

Batch = tuple[dict[str, Tensor], Tensor]


class WindowBatches:
    """The batch of step s is the s-th slice of an endless row of shuffles of all windows; each shuffle has its own seed."""

    def __init__(
        self,
        dataset: Dataset,
        config: ModelConfig,
        index: IntArray,
        batch: int,
        seed: int,
        device: str,
        frames: dict[str, Frames] | None = None,
    ) -> None:
        """`frames` holds the pictures of every image key (default: all of them decoded in memory)."""
        self.index = torch.as_tensor(np.asarray(index))  # (N, T)
        self.observed, self.batch, self.seed, self.device = (
            config.horizon.observed,
            batch,
            seed,
            device,
        )
        images = image_keys(config)
        if frames is None and images:
            self.frames = open_frames(dataset, images, "ram", 1 << 62)
        else:
            self.frames = frames or {}
        keys = (*(key for key in config.obs_spec.keys if key not in images), ACTION)
        self.arrays = {
            key: torch.as_tensor(np.asarray(dataset.array(key))).to(device) for key in keys
        }
        self.names = tuple(config.obs_spec.keys)
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> Batch:
        """Observation key -> (B, To, ...) and actions (B, T, A), in their own units."""
        return self.of(self.windows(step))

    def windows(self, step: int) -> Tensor:
        """The steps (B, T) that the batch of a step is made of."""
        return self.index[self._rows(step)]

    def all(self, names: Sequence[str]) -> Iterator[Batch]:
        """Every window once, in order, as many at a time as in a batch, with some keys of its observation."""
        for first in range(0, len(self.index), self.batch):
            yield self.of(self.index[first : first + self.batch], names)

    def of(self, windows: Tensor, names: Sequence[str] | None = None) -> Batch:
        """What lies in windows (B, T): the chosen keys of the observation, and the actions."""
        seen = windows[:, : self.observed]  # (B, To)
        observation = {}
        for name in self.names if names is None else names:
            observation[name] = self._seen(name, seen)
        return observation, self.arrays[ACTION][windows].float()

    def _seen(self, name: str, seen: Tensor) -> Tensor:
        if name not in self.frames:
            return self.arrays[name][seen]
        return torch.from_numpy(self.frames[name].take(seen.numpy())).to(self.device)

    def _rows(self, step: int) -> Tensor:
        """Which windows the step takes; shuffles follow each other without a gap, so no window is left out."""
        first = step * self.batch
        places = torch.arange(first, first + self.batch)
        return torch.cat(
            [
                self._shuffle(int(e))[places[places // len(self.index) == e] % len(self.index)]
                for e in self._epochs(places)
            ]
        )

    def _epochs(self, places: Tensor) -> Tensor:
        return torch.unique(places // len(self.index))

    def _shuffle(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(torch_seed(self.seed, Purpose.SHUFFLE, epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.index), generator=generator)
        return self._order


class Prefetcher:
    """Batches that threads put together while the step before is computed; the same batches, in any number of threads."""

    def __init__(self, batches: WindowBatches, threads: int) -> None:
        self.batches, self.threads = batches, threads
        if threads:
            self._pool = ThreadPoolExecutor(threads, "frames")
        else:
            self._pool = None
        self._waiting: dict[int, Future[Batch]] = {}

    def at(self, step: int) -> Batch:
        """As `WindowBatches.at`; the next ones are begun."""
        if self._pool is None:
            return self.batches.at(step)
        for later in range(step, step + self.threads + 1):
            if later not in self._waiting:
                self._waiting[later] = self._pool.submit(
                    self.batches.of, self.batches.windows(later)
                )
        batch = self._waiting.pop(step)
        for skipped in [number for number in self._waiting if number < step]:
            del self._waiting[skipped]
        return batch.result()


def balanced_index(dataset: Dataset, config: ModelConfig, index: IntArray) -> IntArray:
    """The windows (N, T), those of tasks that have few of them repeated, so that each task has as many within one repetition.

    A task is what the observation's key of kind `language` says at a window's first step.
    """
    names = []
    for name, key in config.obs_spec.keys.items():
        if key.kind == "language":
            names.append(name)
    if not names:
        raise ConfigError(
            "training.balanced=true balances tasks by their words, and the observation has none: leave it out"
        )
    _, task, counts = np.unique(
        np.asarray(dataset.array(names[0]))[index[:, 0]],
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    order, most = np.argsort(task, kind="stable"), counts.max()
    parts = np.split(order, np.cumsum(counts)[:-1])
    return np.concatenate([index[np.resize(part, most)] for part in parts])


def image_keys(config: ModelConfig) -> list[str]:
    """The pictures among what a model observes."""
    found: list[str] = []
    for name, key in config.obs_spec.keys.items():
        if key.kind == "image":
            found.append(name)
    return found
