"""A data set whose timestamps drift, seen at a fixed rate; rows are read when asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import ActionSpec, ConfigError, DataError, IntArray, ObsKey
from .arrays import check_fps
from .episodes import ACTION, MADE, TIMESTAMP, Dataset, check_choice, count_steps, episode_slice
from .resampling import FloatArray, How, Part, Places, blend, find_places, make_grid

FPS_TOLERANCE = 0.05
"""By how much of itself the rate of relative actions may change."""
TIME_EXTRAS = ("target_s", "recorded_s")
OBS_WAYS: dict[str, How] = {"quaternion": "quaternion", "angle": "direction"}
MATRIX_NUMBERS = 6


class Resampled:
    """A data set at a fixed rate: step k of an episode lies k / fps after its first step.

    Actions and states of floats are interpolated linearly, rotations by slerp as their
    specifications say; whole numbers, numbers of two values, words, pictures and the extras are
    those of the newest step.
    """

    def __init__(
        self,
        source: Dataset,
        fps: float,
        most_gap_s: float | None = None,
        hold: Collection[str] = (),
    ) -> None:
        self.source = source
        self.fps = check_fps(fps)
        self.action_spec, self.obs_spec = source.action_spec, source.obs_spec
        self.keys = source.keys
        self._hold = set(hold)
        for key in hold:
            check_choice(key, self.keys)
        _check_relative(source, self.fps)
        if TIMESTAMP not in source.keys:
            raise DataError("the data set has no timestamps; without them nothing can be resampled")
        self._lay_grid(most_gap_s)
        self._parts: dict[str, list[Part]] = {}
        for key in self.keys:
            self._parts[key] = self._find_parts(key)

    def _lay_grid(self, most_gap_s: float | None) -> None:
        """Find the places of all steps among those of the source."""
        stamps = self.source.array(TIMESTAMP)
        parts: list[Places] = []
        grids: list[FloatArray] = []
        starts: list[FloatArray] = []
        self._gap_s, self._drift_s = 0.0, 0.0
        for number in range(len(self.source.episode_ends)):
            steps = episode_slice(self.source.episode_ends, number)
            times = stamps[steps]
            self._check_times(times, number, most_gap_s)
            grid = make_grid(times[0], times[-1], self.fps)
            places = find_places(times, grid)
            parts.append(places.cut(slice(None), -steps.start))
            starts.append(np.full(len(grid), times[0]))
            grids.append(np.arange(len(grid)) / self.fps)
        self._places = Places(
            _join([part.newest for part in parts], np.int64),
            _join([part.before for part in parts], np.int64),
            _join([part.after for part in parts], np.int64),
            _join([part.share for part in parts], np.float64),
        )
        self._times = _join(grids, np.float64)
        self._starts = _join(starts, np.float64)
        self.episode_ends: IntArray = np.cumsum([len(grid) for grid in grids]).astype(np.int64)

    def _check_times(self, times: FloatArray, number: int, most_gap_s: float | None) -> None:
        """Refuse times that do not rise and gaps that are too long; remember the worst."""
        steps = np.diff(times)
        if (steps <= 0).any():
            place = int(np.argmax(steps <= 0))
            raise DataError(
                f"episode {number}: timestamp {place + 1} is {times[place + 1]:.6g} s, not later "
                f"than the one before it ({times[place]:.6g} s); data repair mends that"
            )
        gap = float(steps.max(initial=0.0))
        if most_gap_s is not None and gap > most_gap_s:
            place = int(steps.argmax())
            raise DataError(
                f"episode {number}: nothing for {gap:.3g} s after {times[place]:.3f} s; "
                f"gaps of at most {most_gap_s:g} s are filled: split or drop the episode"
            )
        drift = times - times[0] - np.arange(len(times)) / self.source.fps
        self._gap_s = max(self._gap_s, gap)
        self._drift_s = max(self._drift_s, float(np.abs(drift).max()))

    def describe(self) -> str:
        """What was done, for people to read."""
        return (
            f"resampled to {self.fps:g} Hz by the timestamps: {count_steps(self.source):,} steps "
            f"became {count_steps(self):,}; the timestamps are up to {self._drift_s:.3g} s off "
            f"frame / {self.source.fps:g} Hz, the longest gap is {self._gap_s:.3g} s"
        )

    def array(self, key: str) -> NDArray[Any]:
        """All steps of one key, (N, ...)."""
        return self.rows(key, 0, count_steps(self))

    def rows(self, key: str, start: int, stop: int) -> NDArray[Any]:
        """The steps start..stop of one key; reads the steps of the source that lie around them."""
        check_choice(key, self.keys)
        here = slice(start, min(stop, count_steps(self)))
        if key == TIMESTAMP:
            return self._times[here].copy()
        newest = self._places.newest[here]
        if not len(newest):
            return self.source.rows(key, 0, 0)
        parts = self._parts[key]
        if parts:
            first = int(self._places.before[here][0])
            values = self.source.rows(key, first, int(self._places.after[here][-1]) + 1)
            found = blend(values, self._places.cut(here, first), parts)
        else:
            first = int(newest[0])
            found = self.source.rows(key, first, int(newest[-1]) + 1)[newest - first]
        if key in TIME_EXTRAS or key.startswith(MADE):
            return found - self._starts[here]
        return found

    def content_hash(self) -> str:
        """Hex digest of the source's content and of what is made of it."""
        made = f"{self.source.content_hash()} at {self.fps!r} holding {sorted(self._hold)}"
        return hashlib.sha256(made.encode()).hexdigest()

    def _find_parts(self, key: str) -> list[Part]:
        """How the numbers of a key are interpolated; empty where the newest step's are taken."""
        if key in self._hold:
            return []
        parts: list[Part] = []
        if key == ACTION:
            parts = list_action_parts(self.action_spec)
        elif key in self.obs_spec.keys:
            parts = list_state_parts(self.obs_spec.keys[key])
        if parts:
            return _hold_switches(parts, self.source.array(key))
        if key in TIME_EXTRAS:
            return [Part(1)]
        return []


def resample(
    dataset: Dataset, fps: float, most_gap_s: float | None = None, hold: Collection[str] = ()
) -> Resampled:
    """The data set at a fixed rate [Hz], by its timestamps.

    Args:
        dataset: any data set with a `timestamp`; it must stay open
        fps: steps per second of the result
        most_gap_s: the longest time without a step that is filled; None fills all
        hold: keys that take the newest step's numbers, zero-order hold

    Raises:
        DataError: without timestamps, where they do not rise, and for a longer gap
        ConfigError: where relative actions would have to be summed up or split
    """
    return Resampled(dataset, fps, most_gap_s, hold)


def list_action_parts(spec: ActionSpec) -> list[Part]:
    """How an action's numbers are interpolated: a run of rotation numbers is one or more rotations.

    A run of a multiple of six is of matrices where its unit says so, else of rotation vectors; of
    four, a quaternion. Raises ConfigError for other runs.
    """
    parts: list[Part] = []
    place = 0
    while place < spec.width:
        kind = spec.dims[place].kind
        stop = place
        while stop < spec.width and spec.dims[stop].kind == kind:
            stop += 1
        width = stop - place
        if kind == "rotation":
            parts += _split_rotations(width, spec.dims[place].unit)
        elif kind == "discrete":
            parts.append(Part(width, "hold"))
        else:
            parts.append(Part(width))
        place = stop
    return parts


def list_state_parts(key: ObsKey) -> list[Part]:
    """How a state's numbers are interpolated, as its parts say; empty for what is held."""
    if key.kind != "state" or np.dtype(key.dtype).kind != "f":
        return []
    parts: list[Part] = []
    for part in key.parts:
        parts.append(Part(part.size, OBS_WAYS.get(part.kind, "linear")))
    return parts or [Part(int(np.prod(key.shape)))]


def _hold_switches(parts: list[Part], values: NDArray[Any]) -> list[Part]:
    """Hold what takes two values at most, as a gripper that is open or shut: nothing lies between.

    Data sets of other programs do not say which numbers are discrete.
    """
    if not len(values):
        return parts
    columns = values.reshape(len(values), -1)
    found: list[Part] = []
    for part in parts:
        start = sum(earlier.size for earlier in found)
        if part.how != "linear":
            found.append(part)
            continue
        for column in columns[:, start : start + part.size].T:
            if ((column == column.min()) | (column == column.max())).all():
                found.append(Part(1, "hold"))
            else:
                found.append(Part(1))
    return found


def _split_rotations(width: int, unit: str) -> list[Part]:
    if width % MATRIX_NUMBERS == 0 and "matrix" in unit:
        return [Part(6, "rotation_6d")] * (width // 6)
    if width % 3 == 0:
        return [Part(3, "rotation_vector")] * (width // 3)
    if width == 4:
        return [Part(4, "quaternion")]
    raise ConfigError(
        f"the action has {width} rotation numbers in a row; vectors have 3, quaternions 4, matrices"
        " of two columns 6"
    )


def _check_relative(source: Dataset, fps: float) -> None:
    """Refuse another rate for actions that say changes per step."""
    changed = abs(fps / source.fps - 1)
    for dim in source.action_spec.dims:
        if not dim.absolute and dim.kind != "discrete" and changed > FPS_TOLERANCE:
            raise ConfigError(
                f"action {dim.name} is a change per step at {source.fps:g} Hz; at {fps:g} Hz it "
                f"would mean another: resample to fps={source.fps:g}"
            )


def _join(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    if not parts:
        return np.zeros(0, dtype)
    return np.concatenate(parts)
