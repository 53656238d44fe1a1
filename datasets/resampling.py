"""Streams with true times, brought to a fixed rate.

Continuous numbers are interpolated linearly, rotations along the shortest arc (slerp, Shoemake
1985). Discrete numbers, words and pictures are those of the newest step at or before the time.
Nothing is filtered: who brings 1000 Hz to 10 Hz takes every hundredth number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..spec import ConfigError, DataError, IntArray, unknown

TOLERANCE_S = 1e-4
"""A step this much later than the time asked for counts as being at it: times are rounded."""
SINE_LEAST = 1e-6
FloatArray = NDArray[np.float64]
How = Literal[
    "linear", "hold", "angle", "direction", "quaternion", "rotation_vector", "rotation_6d"
]
HOWS = get_args(How)
SIZES = {"quaternion": 4, "rotation_vector": 3, "rotation_6d": 6}


@dataclass(frozen=True)
class Part:
    """Consecutive numbers that are interpolated together.

    - linear, hold: each number by itself, or that of the newest step
    - angle: each by itself [rad], the short way round, in (-pi, pi]
    - direction: a vector of length 1; sine and cosine of an angle are one
    - quaternion: four numbers in either order, wxyz or xyzw
    - rotation_vector: three numbers [rad], of an angle of at most pi afterwards
    - rotation_6d: the first two columns of the matrix (Zhou et al., 1812.07035)
    """

    size: int
    how: How = "linear"

    def __post_init__(self) -> None:
        """Raise ConfigError for an unknown way and for a rotation of another size."""
        if self.how not in HOWS:
            raise ConfigError(unknown("way to interpolate", self.how, HOWS))
        wanted = SIZES.get(self.how, self.size)
        if self.size != wanted:
            raise ConfigError(f"a {self.how} has {wanted} numbers, here it has {self.size}")


@dataclass(frozen=True)
class Gap:
    """A time without steps."""

    start_s: float
    length_s: float


@dataclass(frozen=True)
class Places:
    """Where m wanted times lie among the steps of a stream.

    A number that is interpolated is that of step `before` (m,), moved on to that of `after` by
    `share` in [0, 1]; one that is held is that of step `newest` (m,).
    """

    newest: IntArray
    before: IntArray
    after: IntArray
    share: FloatArray

    def cut(self, here: slice, first: int) -> Places:
        """Some of the places, among the steps from number `first` on."""
        return Places(
            self.newest[here] - first,
            self.before[here] - first,
            self.after[here] - first,
            self.share[here],
        )


def order_times(times: FloatArray | IntArray) -> IntArray:
    """The steps in the order of their times; of those at the same time only the last is kept."""
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    last = np.ones(len(order), bool)
    last[:-1] = ordered[1:] > ordered[:-1]
    return order[last].astype(np.int64)


def find_gaps(times: FloatArray, limit_s: float) -> list[Gap]:
    """Where two neighbouring times [s] are further apart than the limit."""
    lengths = np.diff(times)
    found: list[Gap] = []
    for place in np.flatnonzero(lengths > limit_s):
        found.append(Gap(float(times[place]), float(lengths[place])))
    return found


def make_grid(start_s: float, stop_s: float, fps: float) -> FloatArray:
    """Times at a fixed rate from the start up to the stop, both included where they fit."""
    count = math.floor((stop_s - start_s + TOLERANCE_S) * fps) + 1
    return start_s + np.arange(max(count, 0)) / fps


def find_common_span(streams: Iterable[FloatArray]) -> tuple[float, float]:
    """First and last time [s] at which every stream exists; the first is later where none is."""
    start = -math.inf
    stop = math.inf
    for times in streams:
        if not len(times):
            return math.inf, -math.inf
        start = max(start, float(times[0]))
        stop = min(stop, float(times[-1]))
    return start, stop


def find_newest(times: FloatArray, wanted: FloatArray) -> IntArray:
    """Index of the newest step at or before each wanted time; the first where there is none.

    `times` must rise.
    """
    found = np.searchsorted(times, wanted + TOLERANCE_S, side="right") - 1
    return np.maximum(found, 0).astype(np.int64)


def find_places(times: FloatArray, wanted: FloatArray) -> Places:
    """The two steps around each wanted time, and how far it lies between them.

    `times` must rise. Before the first and after the last step, the nearest one counts alone.
    """
    before = np.searchsorted(times, wanted, side="right") - 1
    before = np.maximum(before, 0).astype(np.int64)
    after = np.minimum(before + 1, len(times) - 1)
    length = times[after] - times[before]
    share = np.zeros(len(wanted))
    np.divide(wanted - times[before], length, out=share, where=length > 0)
    return Places(find_newest(times, wanted), before, after, np.clip(share, 0, 1))


def resample_numbers(
    times: FloatArray, values: NDArray[Any], wanted: FloatArray, parts: Sequence[Part] = ()
) -> NDArray[Any]:
    """The numbers (n, ...) of n rising times at the m wanted times, (m, ...).

    `parts` says what each number of a step is, in order; without them all are linear. Numbers at
    exactly a recorded time stay as they are. Raises ConfigError where the parts have another
    number of numbers.
    """
    return blend(values, find_places(times, wanted), parts)


def blend(values: NDArray[Any], places: Places, parts: Sequence[Part] = ()) -> NDArray[Any]:
    """The numbers (n, ...) of the steps at m places, (m, ...); see `resample_numbers`."""
    flat = values.reshape(len(values), -1)
    parts = parts or [Part(flat.shape[1])]
    width = sum(part.size for part in parts)
    if width != flat.shape[1]:
        raise ConfigError(f"the parts have {width} numbers; a step has {flat.shape[1]}")
    result = flat[places.newest]
    share = places.share[:, None]
    start = 0
    for part in parts:
        here = slice(start, start + part.size)
        start += part.size
        if part.how == "hold":
            continue
        first = flat[places.before, here]
        second = flat[places.after, here].astype(np.float64)
        moved = _BLENDS[part.how](first.astype(np.float64), second, share)
        result[:, here] = np.where(share == 0, first, moved)
    return result.reshape(len(result), *values.shape[1:])


def _blend_linear(a: FloatArray, b: FloatArray, share: FloatArray) -> FloatArray:
    return a + share * (b - a)


def _blend_angles(a: FloatArray, b: FloatArray, share: FloatArray) -> FloatArray:
    """The short way round; the result lies in (-pi, pi]."""
    turn = np.pi - np.remainder(np.pi - (b - a), 2 * np.pi)
    return np.pi - np.remainder(np.pi - (a + share * turn), 2 * np.pi)


def _blend_directions(a: FloatArray, b: FloatArray, share: FloatArray) -> FloatArray:
    """Slerp of unit vectors of any width.

    Those that nearly agree are blended linearly; of two opposite ones the first is kept.
    """
    a = a / _length(a)
    b = b / _length(b)
    angle = _angle(a, b)
    sine = np.sin(angle)
    near = sine < SINE_LEAST
    safe = np.where(near, 1.0, sine)
    weight_a = np.where(near, 1 - share, np.sin((1 - share) * angle) / safe)
    weight_b = np.where(near, share, np.sin(share * angle) / safe)
    mixed = np.where(near & (angle > 1), a, weight_a * a + weight_b * b)
    return mixed / _length(mixed)


def _blend_quaternions(a: FloatArray, b: FloatArray, share: FloatArray) -> FloatArray:
    """Slerp; q and -q are the same rotation, so the nearer of them is gone to."""
    return _blend_directions(a, np.where(_dot(a, b) < 0, -b, b), share)


def _blend_vectors(a: FloatArray, b: FloatArray, share: FloatArray) -> FloatArray:
    first = Rotation.from_rotvec(a).as_quat()
    second = Rotation.from_rotvec(b).as_quat()
    return Rotation.from_quat(_blend_quaternions(first, second, share)).as_rotvec()


def _blend_columns(a: FloatArray, b: FloatArray, share: FloatArray) -> FloatArray:
    first = Rotation.from_matrix(_join_columns(a)).as_quat()
    second = Rotation.from_matrix(_join_columns(b)).as_quat()
    mixed = Rotation.from_quat(_blend_quaternions(first, second, share)).as_matrix()
    return mixed[:, :, :2].transpose(0, 2, 1).reshape(len(a), 6)


_BLENDS = {
    "linear": _blend_linear,
    "angle": _blend_angles,
    "direction": _blend_directions,
    "quaternion": _blend_quaternions,
    "rotation_vector": _blend_vectors,
    "rotation_6d": _blend_columns,
}


def _join_columns(columns: FloatArray) -> FloatArray:
    """Rotation matrices (m, 3, 3) of their first two columns (m, 6), made orthogonal."""
    first = columns[:, :3] / _length(columns[:, :3])
    second = columns[:, 3:] - _dot(columns[:, 3:], first) * first
    second = second / _length(second)
    return np.stack([first, second, np.cross(first, second)], axis=2)


def _angle(a: FloatArray, b: FloatArray) -> FloatArray:
    """Angles between unit vectors (m, d), (m, 1) [rad]; exact for small ones too (Kahan)."""
    half: FloatArray = np.arctan2(_norm(a - b), _norm(a + b))
    return 2 * half


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    return (a * b).sum(1, keepdims=True)


def _norm(a: FloatArray) -> FloatArray:
    return np.sqrt(_dot(a, a))


def _length(a: FloatArray) -> FloatArray:
    """Lengths (m, 1) to divide by; DataError for a vector of length 0."""
    found = _norm(a)
    if (found == 0).any():
        raise DataError("a rotation or direction is all zeros, which none is; drop those steps")
    return found
