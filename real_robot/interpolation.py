"""From timed actions to smooth targets: a path through the actions, and a follower of the path.

The path is a cubic Hermite curve through the actions at their times. It may jump in velocity where
a new plan begins, and ask for more than an arm can do. The follower aims, every period, at the
path's state a little ahead, along a polynomial of degree 5 (position, velocity and acceleration at
both ends; Flash and Hogan 1985), and goes one period along it. Where no such polynomial stays
within the limits it goes by ruckig towards a velocity that catches up with the path (Berscheid and
Kroeger 2021, "Jerk-limited real-time trajectory generation with arbitrary target states").
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ruckig import ControlInterface, InputParameter, Ruckig, RuckigError, Trajectory

from ..control import splice
from ..spec import ActionSpec, ConfigError, FloatArray, TimedActions
from .driver import Limits

LEAD_S = 0.04
"""The follower aims at where the path will be after so long [s], or longer where it must catch up.

Shorter follows corners more closely with more jerk. At 0.04 s a sine of 1 Hz within the limits is
followed with a delay below 1 ms, see tests/real_robot/test_interpolation.py.
"""
LEAST_PERIODS = 3
"""The lead is at least so many periods of the servo."""
GROWTH, LONGEST = 1.5, 12.0
"""The lead grows until the path can be reached in it, to so many times the shortest: 0.5 s."""
SAMPLES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of a lead at which the limits are looked at."""
ROUNDING = 1e-9
NEAR_S = 1e-4
"""Two knots of a path lie at least so far apart [s]."""


class State(NamedTuple):
    """How one number of an action moves."""

    position: float
    velocity: float = 0.0
    acceleration: float = 0.0


def nearest_rotation(vector: FloatArray, near: FloatArray) -> FloatArray:
    """The rotation vector (3,) of the same rotation that lies nearest to `near` (3,)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        axis = near / max(float(np.linalg.norm(near)), 1e-9)
    else:
        axis = vector / angle
    turns = np.rint((float(near @ axis) - angle) / (2 * math.pi))
    return vector + 2 * math.pi * turns * axis


def find_rotations(spec: ActionSpec) -> tuple[list[int], list[int]]:
    """First numbers of the rotation vectors (three numbers each), and places of single angles.

    Rotations in another form, six numbers of a matrix say, count as plain numbers.
    """
    vectors: list[int] = []
    angles: list[int] = []
    place = 0
    while place < spec.width:
        end = place
        while end < spec.width and spec.dims[end].kind == "rotation":
            end += 1
        if end - place == 1:
            angles.append(place)
        elif (end - place) % 3 == 0:
            vectors += range(place, end, 3)
        place = max(end, place + 1)
    return vectors, angles


@dataclass(frozen=True)
class Path:
    """Positions and velocities at knots, and a cubic between each two; one list per number."""

    times_s: list[float]
    positions: list[list[float]]
    velocities: list[list[float]]
    steps: Sequence[bool]
    """(A,): whether a number keeps a knot's value until the next knot: the discrete ones."""

    def at(self, number: int, time_s: float) -> State:
        """The state of one number of an action; it rests before and behind the path."""
        place = bisect_right(self.times_s, time_s)
        positions, velocities = self.positions[number], self.velocities[number]
        if place == 0:
            return State(positions[0])
        if place == len(self.times_s) or self.steps[number]:
            return State(positions[place - 1])
        began_s = self.times_s[place - 1]
        width_s = self.times_s[place] - began_s
        share = (time_s - began_s) / width_s
        jump = positions[place] - positions[place - 1]
        first, second = velocities[place - 1] * width_s, velocities[place] * width_s
        square = 3 * jump - 2 * first - second
        cube = first + second - 2 * jump
        position = positions[place - 1] + share * (first + share * (square + share * cube))
        velocity = (first + share * (2 * square + share * 3 * cube)) / width_s
        acceleration = (2 * square + 6 * share * cube) / (width_s * width_s)
        return State(position, velocity, acceleration)


def find_velocities(times_s: FloatArray, positions: FloatArray) -> FloatArray:
    """Velocities (n, A) at knots (n,) by Catmull and Rom, for uneven times; 0 at the last one.

    At the first knot it is that of the first piece.
    """
    velocities = np.zeros_like(positions)
    if len(times_s) < 2:
        return velocities
    widths = np.diff(times_s)[:, None]
    slopes = np.diff(positions, axis=0) / widths
    velocities[0] = slopes[0]
    before, after = widths[:-1], widths[1:]
    velocities[1:-1] = (slopes[:-1] * after + slopes[1:] * before) / (before + after)
    return velocities


class Reference:
    """Where an arm should be at any time, by what it has been handed; it holds behind the last."""

    def __init__(self, spec: ActionSpec, position: FloatArray, now_s: float) -> None:
        """It rests at a position (A,)."""
        self.spec = spec
        self._steps = [dim.kind == "discrete" for dim in spec.dims]
        self._vectors, self._angles = find_rotations(spec)
        self.pending = TimedActions.none(spec.width)
        """Handed over, as far as it was not late."""
        self.rest(position, now_s)

    def rest(self, position: FloatArray, now_s: float) -> None:
        """Forget what is pending, and stay at a position (A,)."""
        self.pending = TimedActions.none(self.spec.width)
        rows = np.array(position, np.float64)[None]
        self.path = Path([now_s], rows.T.tolist(), np.zeros_like(rows).T.tolist(), self._steps)

    def at(self, time_s: float) -> tuple[FloatArray, FloatArray]:
        """Position and velocity (A,) at a time."""
        states = []
        for number in range(self.spec.width):
            states.append(self.path.at(number, time_s))
        found = np.array(states)
        return found[:, 0], found[:, 1]

    def left(self, now_s: float) -> int:
        """Pending actions that are meant for a time from now on."""
        return int((self.pending.times_s >= now_s).sum())

    def hand_over(self, chunk: TimedActions, now_s: float) -> int:
        """Put a chunk in the place of what is pending, see `control.splice`.

        From where the path is now it goes on to the chunk's first action that is not late; no other
        one is used. Returns how many were late: meant for a time before now, and not handed over
        before. Rotations become the equivalent that is nearest to the path.
        """
        position, velocity = self.at(now_s)
        chunk = self._unwrap(chunk, position)
        joined, dropped = splice(self.pending, chunk, now_s)
        late = dropped
        for time_s in chunk.times_s[:dropped]:
            late -= bool((np.abs(self.pending.times_s - time_s) < NEAR_S).any())
        if not self._is_known(joined):
            self._begin(joined, position, velocity, now_s)
        return late

    def _is_known(self, joined: TimedActions) -> bool:
        """Whether these are the newest of the actions that are pending already."""
        known = len(self.pending) - len(joined)
        return (
            known >= 0
            and np.array_equal(self.pending.times_s[known:], joined.times_s)
            and np.array_equal(self.pending.actions[known:], joined.actions)
        )

    def _begin(
        self, joined: TimedActions, position: FloatArray, velocity: FloatArray, now_s: float
    ) -> None:
        """A new path: from the present position and velocity (A,) through the actions."""
        self.pending = joined
        times_s, actions = joined.times_s, joined.actions
        velocities = find_velocities(times_s, actions)
        if len(times_s) == 0 or times_s[0] - now_s > NEAR_S:
            times_s = np.concatenate(([now_s], times_s))
            actions = np.concatenate((position[None], actions))
            velocities = np.concatenate((velocity[None], velocities))
        self.path = Path(times_s.tolist(), actions.T.tolist(), velocities.T.tolist(), self._steps)

    def _unwrap(self, chunk: TimedActions, near: FloatArray) -> TimedActions:
        """The chunk with every rotation next to the one before it, the first one next to `near`."""
        if not self._vectors and not self._angles:
            return chunk
        actions = chunk.actions.copy()
        for action in actions:
            for place in self._vectors:
                part = slice(place, place + 3)
                action[part] = nearest_rotation(action[part], near[part])
            for place in self._angles:
                turns = np.rint((near[place] - action[place]) / (2 * math.pi))
                action[place] += 2 * math.pi * turns
            near = action
        return TimedActions(chunk.times_s, actions)


class _Axis:
    """One number of an action: its state, and the ways to go on from there."""

    def __init__(self, limits: Limits, number: int, period_s: float, lead_s: float) -> None:
        self.state = State(0.0)
        self.lower, self.upper = float(limits.lower[number]), float(limits.upper[number])
        self.most = (self.lower, self.upper)  # wider where the arm began outside
        self.period_s, self.least_s = period_s, lead_s
        self.lead_s = lead_s
        self._full = float(limits.velocity[number]), float(limits.acceleration[number])
        self._jerk = float(limits.jerk[number])
        self._ruckig = Ruckig(1, period_s)
        self._way, self._given = Trajectory(1), InputParameter(1)
        self._given.control_interface = ControlInterface.Velocity
        self.scale(1.0)

    def scale(self, share: float) -> None:
        """Use only a share of the velocity and the acceleration that are allowed."""
        self.fastest, self.strongest = self._full[0] * share, self._full[1] * share
        self._given.max_velocity = [self.fastest]
        self._given.max_acceleration = [self.strongest]
        self._given.max_jerk = [self._jerk]

    def put(self, position: float, velocity: float) -> None:
        """Begin anew at a position and a velocity."""
        self.state = State(position, velocity)
        self.most = (min(self.lower, position), max(self.upper, position))
        self.lead_s = self.least_s

    def follow(self, path: Path, number: int, now_s: float) -> None:
        """Go one period towards the path."""
        state = self._glide(path, number, now_s)
        if state is None:
            state = self._hurry(path, number, now_s)
        if state is None or not self._can_stop(state):
            self.slow_down()
        else:
            self.state = state

    def slow_down(self) -> None:
        """Go one period towards rest."""
        if self._plan(self.state, 0.0):
            self.state = self._read()

    def _glide(self, path: Path, number: int, now_s: float) -> State | None:
        """The state after a period on a polynomial that ends in the path's state at a lead.

        The lead is the shortest of a few in which that stays within the limits; None: in none.
        """
        lead_s = max(self.least_s, self.lead_s - self.period_s)
        while lead_s <= LONGEST * self.least_s:
            goal = self._clip(path.at(number, now_s + lead_s))
            way = _Quintic(self.state, goal, lead_s)
            state = way.at(self.period_s)
            calm = way.stays_within(self.fastest, self.strongest, self._jerk)
            if calm and self._is_allowed(state):
                self.lead_s = lead_s
                return state
            lead_s = lead_s * GROWTH
        self.lead_s = self.least_s
        return None

    def _hurry(self, path: Path, number: int, now_s: float) -> State | None:
        """The state after a period on the way to a velocity, by ruckig; None: there is none.

        The velocity is the path's and one that makes up for what lies between: in proportion to it,
        and so low that half the acceleration brakes in time.
        """
        goal = self._clip(path.at(number, now_s + self.period_s))
        lag = goal.position - self.state.position - self.state.velocity * self.period_s
        gain = 0.5 / (self.least_s + self.strongest / self._jerk)
        extra = min(gain * abs(lag), math.sqrt(self.strongest * abs(lag)))
        wanted = goal.velocity + math.copysign(extra, lag)
        if not self._plan(self.state, min(max(wanted, -self.fastest), self.fastest)):
            return None
        return self._read()

    def _clip(self, goal: State) -> State:
        """A state that the arm may be in: next to the wanted one."""
        position = min(max(goal.position, self.lower), self.upper)
        if position != goal.position:
            return State(position)
        if abs(goal.velocity) > self.fastest:
            return State(position, math.copysign(self.fastest, goal.velocity))
        acceleration = min(max(goal.acceleration, -self.strongest), self.strongest)
        return State(position, goal.velocity, acceleration)

    def _is_allowed(self, state: State) -> bool:
        """Whether a state is within the limits, and the next ones can be too."""
        change = abs(state.acceleration - self.state.acceleration)
        gained = state.acceleration * abs(state.acceleration) / (2 * self._jerk)
        return (
            change <= self._jerk * self.period_s
            and abs(state.acceleration) <= self.strongest
            and abs(state.velocity) <= self.fastest
            and abs(state.velocity + gained) <= self.fastest
        )

    def _can_stop(self, state: State) -> bool:
        """Whether the arm could come to rest within its range from this state on."""
        lower, upper = self.most
        speed = abs(state.velocity) + state.acceleration**2 / (2 * self._jerk)
        ramps_s = (abs(state.acceleration) + self.strongest) / self._jerk
        reach = speed * (ramps_s + speed / self.strongest)
        if lower <= state.position - reach and state.position + reach <= upper:
            return True
        if not self._plan(state, 0.0):
            return False
        extrema = self._way.position_extrema[0]
        return lower - ROUNDING <= extrema.min and extrema.max <= upper + ROUNDING

    def _plan(self, state: State, velocity: float) -> bool:
        """Plan the fastest way from a state to a constant velocity; False where there is none."""
        given = self._given
        given.current_position, given.current_velocity = [state.position], [state.velocity]
        given.current_acceleration, given.target_velocity = [state.acceleration], [velocity]
        try:
            self._ruckig.calculate(given, self._way)
        except RuckigError:
            return False
        return True

    def _read(self) -> State:
        """The planned state after a period."""
        found = self._way.at_time(self.period_s)
        return State(found[0][0], found[1][0], found[2][0])


class _Quintic:
    """The polynomial of degree 5 from one state to another in a given time."""

    def __init__(self, begin: State, end: State, width_s: float) -> None:
        self.begin, self.width_s = begin, width_s
        drift = begin.velocity + begin.acceleration * width_s / 2
        jump = end.position - begin.position - drift * width_s
        bend = (end.velocity - begin.velocity - begin.acceleration * width_s) * width_s
        turn = (end.acceleration - begin.acceleration) * width_s * width_s / 2
        self.third = 10 * jump - 4 * bend + turn
        self.fourth = -15 * jump + 7 * bend - 2 * turn
        self.fifth = 6 * jump - 3 * bend + turn

    def stays_within(self, velocity: float, acceleration: float, jerk: float) -> bool:
        """Whether its derivatives are no larger than these, as far as SAMPLES tell."""
        begin, width_s = self.begin, self.width_s
        for share in SAMPLES:
            third, fourth = self.third, self.fourth * share
            fifth = self.fifth * share * share
            if abs(6 * third + 24 * fourth + 60 * fifth) > jerk * width_s**3:
                return False
            bent = share * (6 * third + 12 * fourth + 20 * fifth) / width_s**2
            if abs(begin.acceleration + bent) > acceleration:
                return False
            gained = share * share * (3 * third + 4 * fourth + 5 * fifth) / width_s
            drift = begin.velocity + begin.acceleration * share * width_s
            if abs(drift + gained) > velocity:
                return False
        return True

    def at(self, time_s: float) -> State:
        """The state after a time."""
        begin, share = self.begin, time_s / self.width_s
        third, fourth = self.third, self.fourth * share
        fifth = self.fifth * share * share
        position = begin.position + time_s * (begin.velocity + begin.acceleration * time_s / 2)
        position += share**3 * (third + fourth + fifth)
        gained = share * share * (3 * third + 4 * fourth + 5 * fifth) / self.width_s
        bent = share * (6 * third + 12 * fourth + 20 * fifth) / self.width_s**2
        velocity = begin.velocity + begin.acceleration * time_s + gained
        return State(position, velocity, begin.acceleration + bent)


class Follower:
    """Targets that follow a reference within limits of position, velocity, acceleration and jerk.

    Position, velocity and acceleration go on without a jump whatever the reference does. A path
    within the limits is followed with a delay below 1 ms; one that is beyond them is caught up with
    as soon as it lets itself be. Discrete numbers are passed on as they are.
    """

    def __init__(
        self, spec: ActionSpec, limits: Limits, period_s: float, lead_s: float = LEAD_S
    ) -> None:
        """Raises ConfigError for limits that are not finite and above 0, or of another width."""
        check_limits(spec, limits)
        self.period_s = period_s
        self._smooth: list[int] = []
        self._axes: list[_Axis] = []
        for number, dim in enumerate(spec.dims):
            if dim.kind != "discrete":
                self._smooth.append(number)
                lead_s = max(lead_s, LEAST_PERIODS * period_s)
                self._axes.append(_Axis(limits, number, period_s, lead_s))
        self.position = np.zeros(spec.width)
        self.velocity = np.zeros(spec.width)
        self.acceleration = np.zeros(spec.width)

    def put(self, position: FloatArray, velocity: FloatArray | None = None) -> None:
        """Begin at a position (A,), at rest or with a velocity (A,)."""
        self.position = np.array(position, np.float64)
        if velocity is None:
            velocity = np.zeros_like(self.position)
        for number, axis in zip(self._smooth, self._axes, strict=True):
            axis.put(float(position[number]), float(velocity[number]))
        self._collect()

    def scale(self, share: float) -> None:
        """Use only a share of velocity and acceleration, for a soft start; it may only grow."""
        for axis in self._axes:
            axis.scale(share)

    def restart(self) -> None:
        """The reference has changed: look for the shortest way to it anew."""
        for axis in self._axes:
            axis.lead_s = axis.least_s

    def follow(self, reference: Reference, now_s: float) -> FloatArray:
        """The target (A,) for one period after `now_s`."""
        path = reference.path
        for number, axis in zip(self._smooth, self._axes, strict=True):
            axis.follow(path, number, now_s)
        for number, steps in enumerate(path.steps):
            if steps:
                self.position[number] = path.at(number, now_s + self.period_s)[0]
        return self._collect()

    def slow_down(self) -> FloatArray:
        """The target (A,) one period on towards rest, as fast as the limits allow."""
        for axis in self._axes:
            axis.slow_down()
        return self._collect()

    def at_rest(self) -> bool:
        """Whether nothing moves any more."""
        return not np.abs(self.velocity).max(initial=0.0) > 1e-6

    def _collect(self) -> FloatArray:
        for number, axis in zip(self._smooth, self._axes, strict=True):
            self.position[number] = axis.state.position
            self.velocity[number] = axis.state.velocity
            self.acceleration[number] = axis.state.acceleration
        return self.position.copy()


def check_limits(spec: ActionSpec, limits: Limits) -> None:
    """Raise ConfigError unless there is a finite limit above 0 for every number that is smooth."""
    for name in ("lower", "upper", "velocity", "acceleration", "jerk"):
        values = np.asarray(getattr(limits, name))
        if values.shape != (spec.width,):
            raise ConfigError(
                f"limits.{name} has shape {values.shape}; an action has {spec.width} numbers"
            )
        for dim, value in zip(spec.dims, values.tolist(), strict=True):
            rate = name not in ("lower", "upper")
            if rate and dim.kind != "discrete" and not 0 < value < math.inf:
                raise ConfigError(
                    f"limits.{name} of {dim.name!r} is {value}; a finite number above 0 is wanted"
                )
    if not (np.asarray(limits.lower) <= np.asarray(limits.upper)).all():
        raise ConfigError("limits.lower is above limits.upper; give the lower one first")
