"""A recorded episode as a policy, at another speed, and how closely a robot followed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..spec import (
    ActionSpec,
    BoolArray,
    Executed,
    FloatArray,
    Horizon,
    IntArray,
    Observation,
    ObsSpec,
    Planned,
    State,
    Tick,
)

AHEAD = 8
"""Steps of a plan."""
LONGEST_LAG = 10
"""In control periods; a robot that follows later than that is not said to follow."""
LAG_PARTS = 5
"""Lags are tried in so many parts of a control period."""


class ReplayPolicy:
    """Says the actions (n, A) of a list, one a control period; after the last one it stays."""

    rate_hz: float | None = None
    horizon = Horizon(observed=1, planned=AHEAD, executed=AHEAD)
    obs_spec = ObsSpec({})

    def __init__(self, actions: FloatArray, action_spec: ActionSpec) -> None:
        self.action_spec = action_spec
        rest = actions[-1] * [dim.absolute for dim in action_spec.dims]
        self.actions = np.concatenate((actions, np.tile(rest, (AHEAD, 1))))

    def initial_state(self, seeds: Sequence[int]) -> State:
        """Before the first observation."""
        return -1

    def reset_rows(self, state: State, rows: IntArray, seeds: Sequence[int]) -> State:
        """Begin anew."""
        return self.initial_state(seeds)

    def observe(
        self,
        state: State,
        observation: Observation,
        executed: Executed | None = None,
        new: BoolArray | None = None,
    ) -> State:
        """Count the control periods."""
        if new is None or new[0]:
            return state + 1
        return state

    def plan(
        self, state: State, rows: IntArray, executed: IntArray, frozen: IntArray | None = None
    ) -> Planned:
        """The next actions."""
        first = min(state, len(self.actions) - AHEAD)
        return Planned(rows, self.actions[None, first : first + AHEAD], state, np.ones(1, np.int64))

    def adopt(self, state: State, planned: Planned) -> State:
        """There is nothing to remember."""
        return state


def resample(
    actions: FloatArray, times_s: FloatArray, spec: ActionSpec, speed: float, rate_hz: float
) -> FloatArray:
    """Recorded actions (n, A) with their times (n,) at a speed, one a control period, (m, A).

    Absolute numbers are interpolated, discrete ones kept. Changes are spread, so that their sum
    stays the same.
    """
    passed_s = (times_s - times_s[0]) / speed
    count = int(np.ceil(passed_s[-1] * rate_hz - 1e-6)) + 1
    wanted_s = np.arange(count) / rate_hz
    found = np.empty((count, spec.width))
    for number, dim in enumerate(spec.dims):
        values = actions[:, number].astype(np.float64)
        if dim.kind == "discrete":
            nearest = np.searchsorted(passed_s, wanted_s + 1e-9, side="right") - 1
            found[:, number] = values[nearest]
        elif dim.absolute:
            found[:, number] = np.interp(wanted_s, passed_s, values)
        else:
            ends_s = np.append(passed_s, passed_s[-1] + 1 / (rate_hz * speed))
            sums = np.concatenate(([0.0], np.cumsum(values)))
            edges_s = np.arange(count + 1) / rate_hz
            found[:, number] = np.diff(np.interp(edges_s, ends_s, sums))
    return found


def approach(start: FloatArray, goal: FloatArray, spec: ActionSpec, steps: int) -> FloatArray:
    """Actions (steps, A) from `start` to `goal` (A,) that begin and end at rest (minimum jerk).

    Numbers that say changes are 0.
    """
    share = np.arange(1, steps + 1)[:, None] / max(steps, 1)
    smooth = share**3 * (10 - 15 * share + 6 * share**2)
    absolute = np.array([dim.absolute for dim in spec.dims])
    return np.where(absolute, start + smooth * (goal - start), 0.0)


@dataclass(frozen=True)
class TrackingError:
    """How far the robot was from what it was told."""

    names: tuple[str, ...]
    rms: FloatArray
    """(n,), of what was measured against what it was told at the same time."""
    largest: FloatArray
    """(n,)"""
    lag_s: float
    """It followed so much later."""
    lagged_rms: FloatArray
    """(n,), against what it was told `lag_s` before."""


class Tracking:
    """A listener that compares what a robot is told with what it measures.

    Joint angles are read from the observation `joints`, poses of the tool from `tool`.
    """

    def __init__(self, action_spec: ActionSpec, obs_spec: ObsSpec, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self.key, self.columns = find_measured(action_spec, obs_spec)
        self.names = tuple(action_spec.dims[number].name for number in self.columns)
        self._told: list[FloatArray] = []
        self._measured: list[FloatArray] = []

    def __call__(self, tick: Tick) -> None:
        """Note what was measured at the beginning of a turn, and what the turn tells."""
        if not self.key:
            return
        measured = np.asarray(tick.observation[self.key][0], np.float64)
        self._measured.append(measured[: len(self.columns)])
        self._told.append(tick.applied[0][self.columns].astype(np.float64))

    def summarise(self, first: int = 0) -> TrackingError | None:
        """From turn `first` on; None where the robot does not show what it is told."""
        told, measured = np.array(self._told), np.array(self._measured)
        steps = np.arange(len(told))
        used = steps >= first + LONGEST_LAG
        if not self.key or not used.any():
            return None
        best_lag = 0.0
        errors = told[used] - measured[used]
        best = errors
        for lag in np.arange(0, LONGEST_LAG + 1e-9, 1 / LAG_PARTS):
            earlier = [np.interp(steps - lag, steps, column) for column in told.T]
            found = np.transpose(earlier)[used] - measured[used]
            if (found**2).mean() < (best**2).mean() * (1 - 1e-9):
                best, best_lag = found, float(lag)
        return TrackingError(
            names=self.names,
            rms=np.sqrt((errors**2).mean(0)),
            largest=np.abs(errors).max(0),
            lag_s=best_lag / self.rate_hz,
            lagged_rms=np.sqrt((best**2).mean(0)),
        )


def find_measured(action_spec: ActionSpec, obs_spec: ObsSpec) -> tuple[str, list[int]]:
    """The observation that shows what an action commands, and the numbers that it shows.

    An empty name where there is none.
    """
    names = [dim.name for dim in action_spec.dims]
    shapes = {name: tuple(key.shape) for name, key in obs_spec.keys.items()}
    if not all(dim.absolute for dim in action_spec.dims):
        return "", []
    if names[:6] == ["x", "y", "z", "rx", "ry", "rz"] and shapes.get("tool") == (6,):
        return "tool", list(range(6))
    if shapes.get("joints") == (len(names),):
        return "joints", list(range(len(names)))
    return "", []
