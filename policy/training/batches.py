"""Training batches: windows of observations and actions, chosen by seed and step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ...datasets.episodes import Dataset
from ...datasets.frames import Frames, open_frames
from ...datasets.windows import Windows
from ...seeds import Purpose, torch_seed
from ...spec import ConfigError, FloatArray, IntArray
from ..model import ModelConfig
from ..normalizer import ACTION
from .mixing import MixedDraw
from .processes import current_share
from .streaming import ShardOrder

Batch = tuple[dict[str, Tensor], Tensor]


class WindowBatches:
    """The batch of step s is the s-th slice of an endless row of shuffles of all windows.

    Each shuffle has its own seed. Where several processes train, each gets its rows of the batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: ModelConfig,
        index: IntArray | Windows,
        batch: int,
        seed: int,
        device: str,
        frames: dict[str, Frames] | None = None,
        weights: FloatArray | None = None,
        mixed: MixedDraw | None = None,
        streamed: ShardOrder | None = None,
    ) -> None:
        """`index` holds the windows, as (N, T) steps or computed when asked for.

        `batch` counts the rows of all processes together.

        `weights` holds what each step of the data counts; their mean over the windows becomes 1.
        `mixed` draws the windows of a mixture, `streamed` orders those of shards. `frames` holds
        the pictures of every image key (default: all of them decoded in memory).
        """
        self.chosen = index
        self.count = len(index)
        self.mixed = mixed
        self.streamed = streamed
        self.observed = config.horizon.observed
        self.batch, self.seed = batch, seed
        self.device = device
        self.share = current_share()
        images = image_keys(config)
        if frames is None and images:
            frames = open_frames(dataset, images, "ram", 1 << 62)
        self.frames = frames or {}
        self.names = tuple(config.obs_spec.keys)
        self.arrays: dict[str, Tensor] = {}
        for key in (*self.names, ACTION):
            if key not in images:
                values = np.require(dataset.array(key), requirements="W")  # else torch warns
                self.arrays[key] = torch.as_tensor(values).to(device)
        self.weights: Tensor | None = None
        if weights is not None:
            scaled = torch.as_tensor(weights, dtype=torch.float32)
            self.weights = (scaled / _find_mean(scaled, index)).to(device)
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    @property
    def index(self) -> Tensor:
        """The steps (N, T) of all windows; of many episodes they take much memory."""
        return self._find_steps(slice(None))

    def at(self, step: int) -> Batch:
        """Observation key -> (B, To, ...) and actions (B, T, A), in their own units."""
        return self.of(self.windows(step))

    def weigh(self, step: int) -> Tensor | None:
        """What the planned steps (B, T) of the batch of `step` count; None: all the same."""
        if self.weights is None:
            return None
        return self.weights[self.windows(step)]

    def windows(self, step: int) -> Tensor:
        """The steps of the data (B, T) in this process's rows of the batch of `step`."""
        return self._find_steps(self.share.cut(self._rows(step)).numpy())

    def all(self, names: Sequence[str]) -> Iterator[Batch]:
        """Every window once, in order, at most `batch` at a time, with the keys `names`."""
        for start in range(0, self.count, self.batch):
            yield self.of(self._find_steps(slice(start, start + self.batch)), names)

    def of(self, windows: Tensor, names: Sequence[str] | None = None) -> Batch:
        """The observation (its keys `names`, default all) and the actions in windows (B, T)."""
        observed = windows[:, : self.observed]  # (B, To)
        observation = {}
        for name in self.names if names is None else names:
            observation[name] = self._read(name, observed)
        return observation, self.arrays[ACTION][windows].float()

    def _find_steps(self, rows: IntArray | slice) -> Tensor:
        """The steps (n, T) of some windows."""
        if isinstance(self.chosen, Windows):
            return torch.from_numpy(self.chosen.steps(rows))
        return torch.as_tensor(np.asarray(self.chosen)[rows])

    def _read(self, name: str, steps: Tensor) -> Tensor:
        """One key of the observation at steps (B, To) of the data, (B, To, ...)."""
        if name not in self.frames:
            return self.arrays[name][steps]
        return torch.from_numpy(self.frames[name].take(steps.numpy())).to(self.device)

    def _rows(self, step: int) -> Tensor:
        """Numbers (batch,) of the windows that a step takes.

        Shuffles follow each other without a gap, so no window is left out.
        """
        if self.mixed is not None:
            return self.mixed.draw(step, self.batch)
        first = step * self.batch
        places = torch.arange(first, first + self.batch)
        epochs = places // self.count
        parts = []
        for epoch in epochs.unique().tolist():
            order = self._shuffle(epoch)
            here = places[epochs == epoch] % self.count
            if self.streamed is not None:
                self.streamed.fetch_ahead(int(here[0]))
            parts.append(order[here])
        return torch.cat(parts)

    def _shuffle(self, epoch: int) -> Tensor:
        """The order (N,) of the windows in an epoch; that of the newest epoch is kept."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = self._draw_order(epoch)
        return self._order

    def _draw_order(self, epoch: int) -> Tensor:
        if self.streamed is not None:
            return self.streamed.shuffle(epoch)
        generator = torch.Generator().manual_seed(torch_seed(self.seed, Purpose.SHUFFLE, epoch))
        return torch.randperm(self.count, generator=generator)


def _find_mean(values: Tensor, index: IntArray | Windows) -> Tensor:
    """The mean of what each step has (steps,), over the steps of all windows."""
    if isinstance(index, Windows):
        uses = torch.from_numpy(index.count_uses())
        return (values * uses).sum(dtype=torch.float64) / uses.sum()
    return values[torch.as_tensor(np.asarray(index))].mean()


class Prefetcher:
    """Reads the next batches in threads while a step is computed.

    The batches are the same with any number of threads; 0 reads each one when it is asked for.
    """

    def __init__(self, batches: WindowBatches, threads: int) -> None:
        self.batches, self.threads = batches, threads
        self._pool: ThreadPoolExecutor | None = None
        if threads:
            self._pool = ThreadPoolExecutor(threads, "frames")
        self._waiting: dict[int, Future[Batch]] = {}

    def at(self, step: int) -> Batch:
        """As `WindowBatches.at`; starts to read the next ones."""
        if self._pool is None:
            return self.batches.at(step)
        for later in range(step, step + self.threads + 1):
            if later not in self._waiting:
                windows = self.batches.windows(later)
                self._waiting[later] = self._pool.submit(self.batches.of, windows)
        batch = self._waiting.pop(step)
        for number in list(self._waiting):
            if number < step:
                del self._waiting[number]
        return batch.result()


def balance_windows(dataset: Dataset, config: ModelConfig, windows: Windows) -> Windows:
    """The windows with those of rare tasks repeated.

    Each task then has as many windows as the most frequent one. A window's task is the text of the
    observation's key of kind `language` at its first step. Raises ConfigError where there is none.
    """
    language = _keys_of_kind(config, "language")
    if not language:
        raise ConfigError(
            "training.balanced=true balances tasks by their instruction, "
            "and the observation has none: leave it out"
        )
    first = np.concatenate([steps[:, 0] for steps in windows.blocks()])
    instructions = np.asarray(dataset.array(language[0]))[first]
    found = np.unique(instructions, axis=0, return_inverse=True, return_counts=True)
    task, counts = found[1:]
    order = np.argsort(task, kind="stable")
    parts = []
    for part in np.split(order, np.cumsum(counts)[:-1]):
        parts.append(np.resize(part, counts.max()))
    return windows.take(np.concatenate(parts))


def image_keys(config: ModelConfig) -> list[str]:
    """The keys of a model's observation that hold pictures."""
    return _keys_of_kind(config, "image")


def _keys_of_kind(config: ModelConfig, kind: str) -> list[str]:
    names: list[str] = []
    for name, key in config.obs_spec.keys.items():
        if key.kind == kind:
            names.append(name)
    return names
