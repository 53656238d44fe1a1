"""What a teleoperator is: somebody who says where the arm is to go, every control period."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...spec import ActionSpec, FloatArray, Observation, Robot, TimedObservation


@dataclass(frozen=True)
class RobotView:
    """How the robot stands, for who moves it."""

    observation: Observation
    """Key -> (...), without an axis of rows."""
    position: FloatArray
    """(A,) the action that keeps it where it is."""


class Teleoperator(Protocol):
    """An operator with a device."""

    def start(self) -> None:
        """Open the device; ConfigError or DriverError where that cannot be. Nothing moves."""
        ...

    def begin(self, position: FloatArray) -> None:
        """From now on the operator moves the arm, from where it is (A,): its first action is near.

        Called again after every time that somebody else has moved it.
        """
        ...

    def read(self, now_s: float, view: RobotView) -> FloatArray | None:
        """What the arm is to do now (A,); None: nothing new. Never waits."""
        ...

    def close(self) -> None:
        """Let go of the device; may be called twice."""
        ...


class Scripted:
    """A function in an operator's place, for rehearsals and tests."""

    def __init__(self, act: Callable[[float, RobotView], FloatArray | None]) -> None:
        """`act` gets the time [s] and the view, and returns an action (A,) or None."""
        self._act = act

    def start(self) -> None:
        """There is no device."""

    def begin(self, position: FloatArray) -> None:
        """The function sees for itself where the arm is."""

    def read(self, now_s: float, view: RobotView) -> FloatArray | None:
        """Whatever the function says."""
        return self._act(now_s, view)

    def close(self) -> None:
        """There is no device."""


class Target:
    """Where an operator who moves by small steps has brought the arm.

    Numbers of an action that say changes are the change itself, and 0 when nothing is changed.
    """

    def __init__(self, action_spec: ActionSpec, leash: float) -> None:
        """`leash` is the most that the target may be ahead of the arm, in the actions' units."""
        self.absolute = np.array([dim.absolute for dim in action_spec.dims])
        self.leash = leash
        self.position = np.zeros(action_spec.width)

    def begin(self, position: FloatArray) -> None:
        """The arm is at `position` (A,)."""
        self.position = np.array(position, np.float64)

    def move(self, change: FloatArray, position: FloatArray) -> FloatArray:
        """Move by `change` (A,) while the arm is at `position` (A,); returns the action (A,).

        An arm that is blocked does not store up what it will do once it is free.
        """
        wanted = self.position + change
        leashed = np.clip(wanted, position - self.leash, position + self.leash)
        moved = np.where(change != 0, leashed, self.position)
        self.position = np.where(self.absolute, moved, change)
        return self.position.copy()


def view_robot(robot: Robot, observation: Observation | TimedObservation) -> RobotView:
    """How a robot of one row stands."""
    if isinstance(observation, TimedObservation):
        observation = observation.observation
    seen = {name: values[0] for name, values in observation.items()}
    return RobotView(seen, np.array(robot.hold_position()[0], np.float64))
