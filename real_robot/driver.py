"""What a driver of one arm is: it connects, reads, commands one target after the other, and stops.

A driver lives in the controller process, which needs numpy alone of the numeric packages. It knows
its vendor's client and units; limits, interpolation and watchdogs are the controller's, see
`servo` and `safety`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..spec import ActionSpec, FloatArray, HotstartError, Limits, Observation, ObsSpec

HAND_ACCELERATION = 20.0
HAND_JERK = 400.0
"""Of a gripper's opening [1/s^2, 1/s^3]."""


class DriverError(HotstartError):
    """An arm or its connection failed; the message says what, where, and what to do."""


@dataclass(frozen=True)
class ArmState:
    """What an arm says of itself at one time."""

    made_s: float
    """When it was measured, by `time.monotonic` of this machine."""
    positions: FloatArray
    """(A,): what is measured of what actions command, in the same units."""
    velocities: FloatArray
    """(A,), per second; zeros where the arm does not tell."""
    observation: Observation
    """What the policy sees of it: the keys of the driver's `obs_spec`, without an axis of rows."""
    fault: str = ""
    """What keeps it from moving ("protective stop", "overload of joint 3"); empty: nothing."""
    notes: Mapping[str, float] = field(default_factory=dict)
    """Further numbers for the log: temperatures, currents, voltages."""


class Driver(Protocol):
    """One arm with its gripper, over its vendor's client. Actions are absolute targets (A,).

    Only `stop` may be called from another thread, at any time and in any state.
    """

    name: str
    servo_hz: float
    """How often targets are commanded."""
    action_spec: ActionSpec
    obs_spec: ObsSpec
    limits: Limits
    watchdog_s: float | None
    """After so long without a command the arm itself stops [s]; None: it does not."""

    def connect(self) -> None:
        """Open the connection and make the arm ready; nothing moves.

        Raises DriverError where it cannot, ConfigError where a package is missing, which it names.
        """
        ...

    def read(self) -> ArmState:
        """The newest state; within a bounded time, else it raises DriverError."""
        ...

    def command(self, target: FloatArray) -> None:
        """Go to a target (A,) within the next servo period; raises DriverError."""
        ...

    def stop(self) -> None:
        """Bring the arm to a safe rest and keep it there; safe at any time, and repeatable."""
        ...

    def recover(self) -> None:
        """Clear a fault that the operator has looked at; raises DriverError where it cannot."""
        ...

    def close(self) -> None:
        """Let go of the connection; the arm stays at rest."""
        ...


def hold(state: ArmState) -> FloatArray:
    """The target (A,) that keeps an arm where it was measured."""
    return np.array(state.positions, np.float64)


def add_gripper(limits: Limits, speed: float) -> Limits:
    """The limits of an arm and its gripper, which opens from 0 to 1 at `speed` at most [1/s]."""
    ends = (0.0, 1.0, speed, HAND_ACCELERATION, HAND_JERK)
    arrays = (limits.lower, limits.upper, limits.velocity, limits.acceleration, limits.jerk)
    return Limits(*(np.append(array, end) for array, end in zip(arrays, ends, strict=True)))
