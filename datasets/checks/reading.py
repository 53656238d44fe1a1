"""Reads a data set for the checks: one episode at a time, pictures in blocks, so memory is bounded.

A check sees every episode once (`Check.look`) and keeps little of it; at the end it reports.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, FloatArray, IntArray
from ..episodes import ACTION, Dataset
from .finding import Finding

FRAMES_AT_ONCE = 32
"""Pictures decoded together: 30 MB of 640 x 480."""
LOOK_SIDE = 64
"""Pixels along a side that motion is judged by; larger pictures are thinned out."""
MOST_ROWS = 50_000
"""Rows of a key that quantiles are computed from: their error is then 0.05 %."""


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Args:
        dataset: the data set
        ends: its `episode_ends`
        task_hz: the control rate of the task that it is for; None where nobody says it
        validation_share: share of the episodes that a training will hold out
        seed: the training's seed
    """

    dataset: Dataset
    ends: IntArray
    task_hz: float | None = None
    validation_share: float = 0.05
    seed: int = 0

    @property
    def states(self) -> list[str]:
        """Keys of kind `state`."""
        keys = self.dataset.obs_spec.keys
        return [name for name, key in keys.items() if key.kind == "state"]

    @property
    def images(self) -> list[str]:
        """Keys of kind `image`."""
        keys = self.dataset.obs_spec.keys
        return [name for name, key in keys.items() if key.kind == "image"]


@dataclass
class Track:
    """What was seen of a camera in the first f frames of an episode."""

    energy: FloatArray
    """(f - 1,) mean absolute change of brightness from frame to frame [0 to 255]."""
    same: NDArray[np.bool_]
    """(f - 1,) whether a frame equals the one before."""
    contrast: FloatArray
    """(f,) brightest less darkest pixel [0 to 255]."""
    brightest: int


@dataclass
class Episode:
    """One episode: its n steps of every key that could be read."""

    number: int
    start: int
    length: int
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    """All numbers that could be read."""
    sound: dict[str, FloatArray] = field(default_factory=dict)
    """States and actions (n, D) of the right length without NaN, as float64."""
    tracks: dict[str, Track] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """Key -> why it could not be read."""


class Check(Protocol):
    """One family of faults."""

    def look(self, episode: Episode) -> None:
        """Note what the report will need."""
        ...

    def report(self) -> Iterable[Finding]:
        """The findings, after the last episode."""
        ...


def read_episode(subject: Subject, number: int, frames: int | None) -> Episode:
    """An episode with all its numbers, and tracks of the first `frames` pictures (None: all)."""
    stop = int(subject.ends[number])
    start = 0
    if number:
        start = int(subject.ends[number - 1])
    episode = Episode(number, start, stop - start)
    for key in subject.dataset.keys:
        try:
            if key in subject.images:
                last = stop
                if frames is not None:
                    last = min(stop, start + frames)
                if last > start:
                    episode.tracks[key] = read_track(subject.dataset, key, start, last)
            else:
                episode.values[key] = subject.dataset.rows(key, start, stop)
        except DataError as error:
            episode.problems[key] = str(error)
    for key in (*subject.states, ACTION):
        values = episode.values.get(key)
        if values is not None and len(values) == episode.length and np.isfinite(values).all():
            episode.sound[key] = values.reshape(len(values), -1).astype(np.float64)
    return episode


def read_track(dataset: Dataset, key: str, start: int, stop: int) -> Track:
    """What is seen of a camera from step `start` to `stop`; DataError where it is damaged."""
    energy: list[FloatArray] = []
    same: list[NDArray[np.bool_]] = []
    contrast: list[FloatArray] = []
    brightest = 0
    before: NDArray[Any] | None = None
    for first in range(start, stop, FRAMES_AT_ONCE):
        frames = dataset.rows(key, first, min(first + FRAMES_AT_ONCE, stop))
        if len(frames) == 0:
            break
        brightest = max(brightest, int(frames.max()))
        if before is not None:
            frames = np.concatenate([before, frames])
        small = _thin_out(frames)
        spread = small.max((1, 2)) - small.min((1, 2))
        contrast.append(spread[int(before is not None) :])
        energy.append(np.abs(np.diff(small, axis=0)).mean((1, 2)))
        flat = frames.reshape(len(frames), -1)
        same.append((flat[1:] == flat[:-1]).all(1))
        before = frames[-1:]
    return Track(np.concatenate(energy), np.concatenate(same), np.concatenate(contrast), brightest)


def _thin_out(frames: NDArray[Any]) -> FloatArray:
    """Brightness (f, h, w) of pictures (f, H, W, C), at most LOOK_SIDE pixels a side."""
    high = max(frames.shape[1] // LOOK_SIDE, 1)
    wide = max(frames.shape[2] // LOOK_SIDE, 1)
    return frames[:, ::high, ::wide].mean(-1, dtype=np.float32).astype(np.float64)


def find_motion(episode: Episode, keys: Iterable[str]) -> FloatArray | None:
    """How far the states of these keys move per step, (n - 1,); None where none moves.

    Every number counts in units of its own mean step, so that units do not matter.
    """
    if episode.length < 2:
        return None
    total = np.zeros(episode.length - 1)
    for key in keys:
        if key in episode.sound:
            steps = np.abs(np.diff(episode.sound[key], axis=0))
            means = steps.mean(0)
            moving = means > 0
            total += (steps[:, moving] / means[moving]).sum(1)
    if total.any():
        return total
    return None


class RowSample:
    """At most MOST_ROWS of the rows (., D) that are added, evenly spread over all of them."""

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._every = 1
        self._seen = 0
        self._kept = 0
        self._parts: list[FloatArray] = []

    def add(self, rows: FloatArray) -> None:
        """Take every so manieth row."""
        part = rows[-self._seen % self._every :: self._every]
        self._seen += len(rows)
        self._kept += len(part)
        self._parts.append(part)
        while self._kept > self._most:
            self._parts = [self.rows()[::2]]
            self._kept = len(self._parts[0])
            self._every *= 2

    def rows(self) -> FloatArray:
        """What was kept, (K, D)."""
        return np.concatenate(self._parts)


def name_dim(key: str, dim: int, shape: tuple[int, ...]) -> str:
    """A number of a key by its index, as in state[:, 2]."""
    index = ", ".join(str(place) for place in np.unravel_index(dim, shape))
    return f"{key}[:, {index}]"
