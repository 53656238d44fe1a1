"""A body without a scene: joints that follow their commands, for buses without MuJoCo."""

from __future__ import annotations

import threading
import time

import numpy as np

from ...spec import FloatArray, HotstartError
from .body import BodyState


class PlainBody:
    """Joints follow their commands with a time constant; without power they sink to `rest`."""

    def __init__(self, joints: int, rest: FloatArray | None = None, follow_s: float = 0.02) -> None:
        self.joints = joints
        self.rest = np.zeros(joints) if rest is None else np.array(rest, np.float64)
        self._follow_s = follow_s
        self._lock = threading.Lock()
        self._values = np.append(self.rest, 0.0)  # joints, then the gripper
        self._goals = self._values.copy()
        self._speeds = np.zeros(joints + 1)
        self._power = False
        self._at_s = time.monotonic()

    def read(self) -> BodyState:
        """How it is now."""
        with self._lock:
            self._advance()
            return BodyState(
                made_s=self._at_s,
                positions=self._values[:-1].copy(),
                velocities=self._speeds[:-1].copy(),
                torques=np.zeros(self.joints),
                gripper=float(self._values[-1]),
                tool=np.zeros(6),
            )

    def command(self, positions: FloatArray) -> None:
        """Joint angles (J,) [rad] to go to."""
        with self._lock:
            self._advance()
            self._goals[:-1] = positions

    def command_gripper(self, opening: float) -> None:
        """0 closed to 1 open."""
        with self._lock:
            self._advance()
            self._goals[-1] = opening

    def set_power(self, on: bool) -> None:
        """Without power the joints sink to `rest`, 1 rad away within about 2 s."""
        with self._lock:
            self._advance()
            self._power = on

    def solve_joints(self, tool: FloatArray, near: FloatArray) -> FloatArray:
        """It has no shape: raises HotstartError."""
        raise HotstartError("a body without a scene has no inverse kinematics")

    def place(self, positions: FloatArray) -> None:
        """Be at these joint angles (J,) [rad] at once, as if moved by hand."""
        with self._lock:
            self._advance()
            self._values[:-1] = positions
            self._goals[:-1] = positions

    def _advance(self) -> None:
        now = time.monotonic()
        passed = now - self._at_s
        if passed <= 0:
            return
        goals = self._goals
        constant = self._follow_s
        if not self._power:
            goals = np.append(self.rest, self._values[-1])
            constant = 0.7
        moved = (goals - self._values) * -np.expm1(-passed / constant)
        self._values = self._values + moved
        self._speeds = moved / passed
        self._at_s = now
