"""How a controller of Universal Robots moves its targets: servo, move, speed and stop.

A model, not a measurement: where the maker documents a rule it is followed, the rest is said here.
Everything advances in steps of the controller's period.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ...spec import FloatArray

PERIOD_S = 0.002
SPEED_LIMIT = np.pi
"""Of a UR5e's joints [rad/s]."""
ACCELERATION_LIMIT = 40.0
"""Within which servo targets are followed [rad/s^2]."""
STOP_ACCELERATION = 15.0
"""Of the leading joint when a program is ended, or a protective stop comes [rad/s^2]."""
REST_SPEED = 1e-4
JUMP = 2.0
"""A servo target that asks for so many times the speed limit is a jump of the path."""


class Mode(Protocol):
    """One way to move; it holds what it needs from step to step."""

    done: bool

    def advance(self, q: FloatArray, qd: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Positions and velocities (J,) one period later."""
        ...


class Stop:
    """Every joint slows down together; the leading one at `acceleration` [rad/s^2]."""

    def __init__(self, acceleration: float) -> None:
        self.acceleration = acceleration
        self.done = False

    def advance(self, q: FloatArray, qd: FloatArray) -> tuple[FloatArray, FloatArray]:
        """One period later."""
        leading = float(np.abs(qd).max())
        left = max(0.0, leading - self.acceleration * PERIOD_S)
        if left < REST_SPEED:
            self.done = True
            return q, np.zeros_like(qd)
        slower = qd * (left / leading)
        return q + slower * PERIOD_S, slower


class Servo:
    """`servoj`: a first-order lag behind the newest target.

    Its time constant is the lookahead time at the usual gain 300, and shorter for higher gains.
    """

    done = False

    def __init__(self, target: FloatArray, lookahead_s: float, gain: float) -> None:
        self.target = np.asarray(target, np.float64)
        self.lag_s = max(lookahead_s * 300.0 / gain, 5 * PERIOD_S)

    def is_jump(self, q: FloatArray) -> bool:
        """Whether the target is so far from here that a joint would far exceed its speed."""
        return bool(np.abs(self.target - q).max() / self.lag_s > JUMP * SPEED_LIMIT)

    def advance(self, q: FloatArray, qd: FloatArray) -> tuple[FloatArray, FloatArray]:
        """One period later."""
        error = self.target - q
        brakes = np.sqrt(2 * ACCELERATION_LIMIT * np.abs(error))
        allowed = np.minimum(brakes, SPEED_LIMIT)
        wanted = np.clip(error / self.lag_s, -allowed, allowed)
        change = ACCELERATION_LIMIT * PERIOD_S
        faster = qd + np.clip(wanted - qd, -change, change)
        return q + faster * PERIOD_S, faster


class Speed:
    """`speedj`: joint velocities, after `for_s` a stop; zero: for ever."""

    def __init__(self, velocities: FloatArray, acceleration: float, for_s: float) -> None:
        self.velocities = np.clip(velocities, -SPEED_LIMIT, SPEED_LIMIT)
        self.acceleration = acceleration
        self.left_s = for_s
        self.endless = for_s <= 0
        self.done = False

    def advance(self, q: FloatArray, qd: FloatArray) -> tuple[FloatArray, FloatArray]:
        """One period later."""
        self.left_s -= PERIOD_S
        self.done = not self.endless and self.left_s < 0
        change = self.velocities - qd
        leading = float(np.abs(change).max())
        share = min(1.0, self.acceleration * PERIOD_S / max(leading, 1e-12))
        faster = qd + change * share
        return q + faster * PERIOD_S, faster


class Move:
    """`movej` and `movel`: along a path of joint angles (N, J) from rest to rest.

    `length` is the path's, in the unit of `speed` and `acceleration`: of the leading joint [rad] or
    of the tool [m].
    """

    def __init__(
        self, points: FloatArray, length: float, speed: float, acceleration: float
    ) -> None:
        self.points = np.asarray(points, np.float64)
        self.length = max(length, 1e-9)
        self.speed = speed
        self.acceleration = acceleration
        self.at = 0.0
        self.rate = 0.0
        self.done = False

    def advance(self, q: FloatArray, qd: FloatArray) -> tuple[FloatArray, FloatArray]:
        """One period later."""
        left = self.length - self.at
        braking = np.sqrt(2 * self.acceleration * left)
        self.rate = min(self.rate + self.acceleration * PERIOD_S, self.speed, float(braking))
        self.at += self.rate * PERIOD_S
        if self.length - self.at < 1e-6 or self.rate < 1e-9:
            self.done = True
            return self.points[-1].copy(), np.zeros_like(qd)
        place = self.at / self.length * (len(self.points) - 1)
        first = min(int(place), len(self.points) - 2)
        step = self.points[first + 1] - self.points[first]
        there = self.points[first] + step * (place - first)
        return there, (there - q) / PERIOD_S


class Motion:
    """Where the controller wants the joints, period after period."""

    def __init__(self, q: FloatArray) -> None:
        self.reset(q)

    def reset(self, q: FloatArray) -> None:
        """At rest at these angles."""
        self.q = np.array(q, np.float64)
        self.qd = np.zeros_like(self.q)
        self.qdd = np.zeros_like(self.q)
        self.mode: Mode | None = None

    @property
    def resting(self) -> bool:
        """Whether nothing moves."""
        return self.mode is None and float(np.abs(self.qd).max()) < REST_SPEED

    def stop(self, acceleration: float = STOP_ACCELERATION) -> None:
        """Slow down from whatever it does."""
        if self.mode is not None or not self.resting:
            self.mode = Stop(acceleration)

    def step(self) -> None:
        """One period later."""
        if self.mode is None:
            return
        before = self.qd
        self.q, self.qd = self.mode.advance(self.q, self.qd)
        self.qdd = (self.qd - before) / PERIOD_S
        if self.mode.done:
            self.mode = None
            self.stop()
