"""What a simulated device moves: an arm in a MuJoCo scene that runs by the wall clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...spec import FloatArray


@dataclass(frozen=True)
class BodyState:
    """An arm in its scene, at one time."""

    made_s: float
    """By `time.monotonic`."""
    positions: FloatArray
    """(J,) joint angles [rad], in the arm's own order."""
    velocities: FloatArray
    """(J,) [rad/s]."""
    torques: FloatArray
    """(J,) of the actuators [Nm]."""
    gripper: float
    """0 closed to 1 open; nan: it has none."""
    tool: FloatArray
    """(6,): position [m] and rotation vector [rad] of the tool in the arm's base."""
    resets: int = 0
    """How often the scene has begun anew: the arm is elsewhere all at once, and motors hold it."""


class Body(Protocol):
    """An arm that a simulated device commands. Its methods may be called from any thread.

    Between two commands the body goes on by the wall clock: gravity, contacts and motors included.
    """

    joints: int

    def read(self) -> BodyState:
        """How it is now."""
        ...

    def command(self, positions: FloatArray) -> None:
        """Joint angles (J,) [rad] for the motors to go to."""
        ...

    def command_gripper(self, opening: float) -> None:
        """0 closed to 1 open."""
        ...

    def set_power(self, on: bool) -> None:
        """Whether motors hold; without power the arm falls or its brakes hold, as the arm does."""
        ...

    def solve_joints(self, tool: FloatArray, near: FloatArray) -> FloatArray:
        """Joint angles (J,) [rad] for a pose of the tool (6,), next to `near` (J,).

        Raises HotstartError where the pose is out of reach.
        """
        ...
