"""Chosen episodes of data sets, as a data set: every edit is such a view, written as a store.

Nothing is copied: rows are read from the sources when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import ActionSpec, DataError, IntArray, ObsKey, ObsSpec
from .episodes import (
    ACTION,
    MADE,
    TIMESTAMP,
    Dataset,
    check_choice,
    content_hash,
    count_steps,
    episode_slice,
    extra_key,
    list_extras,
)

TIMES = (TIMESTAMP, "target_s", "recorded_s")


@dataclass(frozen=True)
class Piece:
    """Consecutive steps of a data set that become an episode."""

    source: Dataset
    start: int
    """Counted over all steps of the source, as `stop`."""
    stop: int
    values: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Key -> (stop - start, ...): in place of the source's, or of a key that it lacks."""
    begin_s: float = 0.0
    """When the piece begins in the episode that it is cut from; taken off all times."""

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Origin:
    """What a data set says of itself beside its numbers; the arguments of `Store.create`."""

    task: str = ""
    source: str = ""
    options: Mapping[str, Any] | None = None


def read_origin(dataset: Dataset) -> Origin:
    """Task, source and options of a data set; empty where it does not say them."""
    if isinstance(dataset, Selection):
        return dataset.origin
    attributes = getattr(dataset, "attrs", {})
    path = getattr(dataset, "path", None)
    source = attributes.get("source", "")
    if not source and path is not None:
        source = path.name
    return Origin(getattr(dataset, "task", ""), source, attributes.get("options"))


class Selection:
    """Pieces of other data sets, as a data set."""

    def __init__(
        self,
        pieces: Sequence[Piece],
        keys: Mapping[str, str],
        *,
        fps: float,
        action_spec: ActionSpec,
        obs_spec: ObsSpec,
        origin: Origin,
        notes: Sequence[str] = (),
    ) -> None:
        """`keys` maps names here to names in the sources, extras included.

        `notes` says what was decided, for people to read.
        """
        self.pieces = tuple(pieces)
        self.fps = fps
        self.action_spec, self.obs_spec = action_spec, obs_spec
        self.origin, self.notes = origin, tuple(notes)
        self.keys = (*obs_spec.keys, ACTION, *list_extras(keys))
        self.episode_ends: IntArray = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        self._named = dict(keys)

    @property
    def task(self) -> str:
        """What is demonstrated."""
        return self.origin.task

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        return self.rows(key, 0, count_steps(self))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key; DataError for an unknown key and a damaged source."""
        check_choice(key, self.keys)
        parts = [self._empty(key)]
        begin = 0
        first = int(np.searchsorted(self.episode_ends, start, side="right"))
        if first:
            begin = int(self.episode_ends[first - 1])
        for number in range(first, len(self.pieces)):
            if begin >= stop:
                break
            piece = self.pieces[number]
            low = max(start - begin, 0)
            high = min(stop - begin, len(piece))
            parts.append(self._read(piece, key, low, high))
            begin += len(piece)
        return np.concatenate(parts[1:] or parts)

    def content_hash(self) -> str:
        """Hex digest of every array and of the episode ends; that of the store made of it."""
        return content_hash(self)

    def _read(self, piece: Piece, key: str, low: int, high: int) -> NDArray[Any]:
        """The steps low..high of a piece, counted from its first."""
        if key in piece.values:
            return piece.values[key][low:high]
        named = self._named[key]
        values = piece.source.rows(named, piece.start + low, piece.start + high)
        if piece.begin_s and (key in TIMES or key.startswith(MADE)):
            return values - piece.begin_s
        return values

    def _empty(self, key: str) -> NDArray[Any]:
        """No steps of a key, (0, ...)."""
        if key == ACTION:
            return np.zeros((0, self.action_spec.width), np.float32)
        spec = self.obs_spec.keys.get(key) or extra_key(key)
        return np.zeros((0, *spec.shape), spec.dtype)


def choose_episodes(dataset: Dataset, numbers: Sequence[int] | IntArray) -> list[Piece]:
    """Whole episodes of a data set; DataError where one of them does not exist."""
    pieces: list[Piece] = []
    for number in numbers:
        steps = episode_slice(dataset.episode_ends, int(number))
        pieces.append(Piece(dataset, steps.start, steps.stop))
    return pieces


def view_all(dataset: Dataset) -> list[Piece]:
    """Every episode of a data set."""
    return choose_episodes(dataset, range(len(dataset.episode_ends)))


def select(dataset: Dataset, pieces: Sequence[Piece], notes: Sequence[str] = ()) -> Selection:
    """Pieces of one data set, with all its keys and specifications."""
    return Selection(
        pieces,
        {key: key for key in dataset.keys},
        fps=dataset.fps,
        action_spec=dataset.action_spec,
        obs_spec=dataset.obs_spec,
        origin=read_origin(dataset),
        notes=notes,
    )


def add_observation(
    dataset: Dataset, name: str, key: ObsKey, values: Sequence[NDArray[Any]]
) -> Selection:
    """A data set with one more observation, or another one in its place.

    `values` has one for each episode, (...), which then holds at every step.
    """
    pieces: list[Piece] = []
    for piece, value in zip(view_all(dataset), values, strict=True):
        pieces.append(replace(piece, values={name: spread(value, len(piece))}))
    return Selection(
        pieces,
        {name: name for name in (*dataset.keys, name)},
        fps=dataset.fps,
        action_spec=dataset.action_spec,
        obs_spec=ObsSpec({**dataset.obs_spec.keys, name: key}),
        origin=read_origin(dataset),
    )


def leave_out(dataset: Dataset, dropped: Sequence[str]) -> Selection:
    """A data set without some observations and extras; DataError where nothing is observed then."""
    keys = {name: key for name, key in dataset.obs_spec.keys.items() if name not in dropped}
    if not keys:
        raise DataError(f"without {', '.join(dropped)} no observation is left")
    kept: dict[str, str] = {}
    for name in dataset.keys:
        if name.removeprefix(MADE) not in dropped and name not in dropped:
            kept[name] = name
    return Selection(
        view_all(dataset),
        kept,
        fps=dataset.fps,
        action_spec=dataset.action_spec,
        obs_spec=ObsSpec(keys),
        origin=read_origin(dataset),
    )


def spread(value: NDArray[Any], steps: int) -> NDArray[Any]:
    """One value (...) at every step, (steps, ...), without a copy."""
    return np.broadcast_to(value, (steps, *np.shape(value)))


def make_times(steps: int, fps: float) -> NDArray[np.float64]:
    """Timestamps of an episode that has none: frame / fps, (steps,) [s]."""
    return np.arange(steps, dtype=np.float64) / fps
