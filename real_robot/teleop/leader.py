"""An operator who moves a second arm by hand; the robot follows it."""

from __future__ import annotations

import numpy as np

from ...spec import ActionSpec, ConfigError, FloatArray
from ..driver import Driver
from .base import RobotView


class LeaderArm:
    """A second arm without torque, which the operator moves.

    After `begin` the robot comes to where the leader is at `catch_up` per second; from then on it
    follows at once.
    """

    def __init__(self, action_spec: ActionSpec, driver: Driver, catch_up: float = 0.5) -> None:
        """Follow the arm of `driver`, which stands still without torque when it is stopped.

        catch_up: the robot's speed until it is where the leader is [rad/s]

        Raises ConfigError where the leader lacks a number of the robot's actions.
        """
        theirs = [dim.name for dim in driver.action_spec.dims]
        lacking = [dim.name for dim in action_spec.dims if dim.name not in theirs]
        if lacking:
            raise ConfigError(
                f"the leader {driver.name} has {theirs}, and the robot is told {lacking} too"
            )
        self.driver, self.catch_up = driver, catch_up
        self._order = [theirs.index(dim.name) for dim in action_spec.dims]
        self._target: FloatArray | None = None
        self._read_s: float | None = None

    def start(self) -> None:
        """Connect and let the arm go limp; DriverError where it cannot."""
        self.driver.connect()
        self.driver.stop()

    def begin(self, position: FloatArray) -> None:
        """From where the robot is."""
        self._target = np.array(position, np.float64)
        self._read_s = None

    def read(self, now_s: float, view: RobotView) -> FloatArray | None:
        """Where the leader is, or on the way there; DriverError where it cannot be read."""
        leader = self.driver.read().positions[self._order]
        if self._target is None:
            return leader
        passed_s = 0.0
        if self._read_s is not None:
            passed_s = now_s - self._read_s
        self._read_s = now_s
        most = self.catch_up * passed_s
        gap = leader - self._target
        if np.abs(gap).max() <= most:
            self._target = None  # it is there
            return leader
        self._target = self._target + np.clip(gap, -most, most)
        return self._target.copy()

    def close(self) -> None:
        """Let go of the arm."""
        self.driver.close()
