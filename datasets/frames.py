"""Pictures of a data set by step, within the memory that was asked for.

- ram: every frame is decoded in memory; the fastest.
- disk: every frame is decoded once into a file, which the system pages in and out.
- none: a chunk is decoded when one of its frames is asked for. The newest chunks are kept, up to
  the memory allowed.
- auto: ram where it fits, else none.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ..spec import ConfigError, DataError, IntArray, unknown
from .arrays import Arrays
from .episodes import Dataset, count_steps
from .store import Store, refuse_full_disk

Cache = Literal["auto", "ram", "disk", "none"]
CACHES = get_args(Cache)
FOREIGN_ROWS = 8
"""Frames of another program's data set that are decoded together: few, since videos are read at
random, and more than one, since a policy observes several in a row."""
LEAST_CHUNKS = 64
"""Decoded chunks that are kept at least, so that a window does not decode one twice."""


class Frames(Protocol):
    """Pictures by step; may be asked from several threads."""

    def take(self, steps: IntArray) -> NDArray[np.uint8]:
        """The pictures (*steps.shape, H, W, C) of steps of any shape."""
        ...


class HeldFrames:
    """Frames that lie in an array, in memory or in a mapped file."""

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self.frames = frames

    def take(self, steps: IntArray) -> NDArray[np.uint8]:
        """Picked by index."""
        return self.frames[steps]


class ChunkFrames:
    """Frames decoded in chunks as needed; at most `most_bytes` of chunks are kept."""

    def __init__(self, dataset: Dataset, key: str, most_bytes: int) -> None:
        self.dataset = dataset
        self.key = key
        self.rows = count_chunk_rows(dataset, key)
        shape = dataset.obs_spec.keys[key].shape
        self.shape = tuple(shape)
        self.most = max(LEAST_CHUNKS, most_bytes // (self.rows * math.prod(shape)))
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = Lock()

    def take(self, steps: IntArray) -> NDArray[np.uint8]:
        """Decode each chunk once per call, however many of its frames are asked for."""
        flat = np.asarray(steps).ravel()
        numbers = flat // self.rows
        found = np.empty((len(flat), *self.shape), np.uint8)
        for number in np.unique(numbers):
            here = numbers == number
            found[here] = self._chunk(int(number))[flat[here] % self.rows]
        return found.reshape(*np.shape(steps), *self.shape)

    def _chunk(self, number: int) -> NDArray[Any]:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        # Decoded outside the lock, so that several threads decode at the same time.
        decoded = read_chunk(self.dataset, self.key, number)
        with self._lock:
            self._kept[number] = decoded
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return decoded


def count_chunk_rows(dataset: Dataset, key: str) -> int:
    """Frames that are decoded together."""
    if isinstance(dataset, Store):
        return dataset.rows_per_chunk(key)
    return FOREIGN_ROWS


def read_chunk(dataset: Dataset, key: str, number: int) -> NDArray[Any]:
    """The frames of one chunk; the last one of a store reaches beyond the end."""
    if isinstance(dataset, Store):
        return dataset.chunk(key, number)
    return dataset.rows(key, number * FOREIGN_ROWS, (number + 1) * FOREIGN_ROWS)


def count_decoded_bytes(dataset: Dataset, keys: Sequence[str]) -> int:
    """Bytes that all frames of some image keys take when decoded."""
    step_bytes = 0
    for key in keys:
        step_bytes += math.prod(dataset.obs_spec.keys[key].shape)
    return count_steps(dataset) * step_bytes


def choose_cache(dataset: Dataset, keys: Sequence[str], cache: str, most_bytes: int) -> Cache:
    """The cache to use for image keys, which may take `most_bytes` of memory.

    Nothing is read. Raises ConfigError for an unknown cache, and for `ram` where it does not fit.
    """
    if cache not in CACHES:
        raise ConfigError(unknown("choice for training.cache", cache, CACHES))
    if isinstance(dataset, Arrays):
        return "ram"  # it lies there already
    needed = count_decoded_bytes(dataset, keys)
    if cache == "ram" and needed > most_bytes:
        raise ConfigError(
            f"training.cache=ram needs {needed / 1e9:.2f} GB for {', '.join(keys)}, "
            f"training.memory_gb allows {most_bytes / 1e9:.2f}: "
            "raise it, or choose training.cache=disk or none"
        )
    if cache == "auto":
        if needed <= most_bytes:
            return "ram"
        return "none"
    return cache  # type: ignore[return-value]


def open_frames(
    dataset: Dataset, keys: Sequence[str], cache: str, most_bytes: int
) -> dict[str, Frames]:
    """Frames of every image key; together they keep at most `most_bytes`, or a few chunks.

    Raises ConfigError as `choose_cache` does, and DataError where the disk is too full for a
    decoded copy.
    """
    chosen = choose_cache(dataset, keys, cache, most_bytes)
    found: dict[str, Frames] = {}
    for key in keys:
        if isinstance(dataset, Arrays):
            found[key] = HeldFrames(dataset.array(key))
        elif chosen == "ram":
            frames = np.empty(_frames_shape(dataset, key), np.uint8)
            _decode_all(dataset, key, frames)
            found[key] = HeldFrames(frames)
        elif chosen == "disk":
            found[key] = HeldFrames(_map_file(dataset, key))
        else:
            found[key] = ChunkFrames(dataset, key, most_bytes // len(keys))
    return found


def _frames_shape(dataset: Dataset, key: str) -> tuple[int, ...]:
    return count_steps(dataset), *dataset.obs_spec.keys[key].shape


def _decode_all(dataset: Dataset, key: str, into: NDArray[np.uint8]) -> None:
    """Every frame of a key, decoded into an array (N, H, W, C)."""
    rows = count_chunk_rows(dataset, key)
    for number in range(math.ceil(count_steps(dataset) / rows)):
        part = into[number * rows : (number + 1) * rows]
        part[...] = read_chunk(dataset, key, number)[: len(part)]


def _map_file(dataset: Dataset, key: str) -> NDArray[np.uint8]:
    """Every frame of a key in a file beside the data set, named after the content.

    It is decoded there the first time. Raises ConfigError for a data set without a place on disk.
    """
    path = getattr(dataset, "path", None)
    if not isinstance(path, Path):
        raise ConfigError("training.cache=disk needs a data set on disk; choose ram or none")
    folder = path.with_name(f"{path.name}.decoded")
    place = folder / f"{key}_{dataset.content_hash()[:16]}.uint8"
    if not place.exists():
        message = f"{place} cannot be written: make room, or choose training.cache=none"
        with refuse_full_disk(message):
            _write_decoded(dataset, key, place)
    return np.memmap(place, np.uint8, "r", shape=_frames_shape(dataset, key))


def _write_decoded(dataset: Dataset, key: str, place: Path) -> None:
    """Decode into a file under another name, then rename it.

    Its room is taken first: a mapped file on a full disk kills the process.
    """
    shape = _frames_shape(dataset, key)
    place.parent.mkdir(parents=True, exist_ok=True)
    _check_room(place.parent, math.prod(shape))
    writing = place.with_name(f"{place.name}.{os.getpid()}.writing")
    try:
        with writing.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, math.prod(shape))
        decoded = np.memmap(writing, np.uint8, "r+", shape=shape)
        _decode_all(dataset, key, decoded)
        decoded.flush()
        writing.replace(place)
    finally:
        writing.unlink(missing_ok=True)


def _check_room(folder: Path, needed: int) -> None:
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise DataError(
            f"the decoded frames take {needed / 1e9:.2f} GB and {folder} has room for "
            f"{free / 1e9:.2f}: make room, or choose training.cache=none"
        )
