"""The kinematics of a UR5e by its Denavit-Hartenberg parameters, and an arm that obeys at once.

Source of the parameters: Universal Robots, "DH parameters for calculations of kinematics and
dynamics". The tool is the flange.
"""

from __future__ import annotations

import threading
import time

import numpy as np
from scipy.spatial.transform import Rotation

from ...spec import FloatArray, HotstartError
from .body import BodyState

D = (0.1625, 0.0, 0.0, 0.1333, 0.0997, 0.0996)
A = (0.0, -0.425, -0.3922, 0.0, 0.0, 0.0)
ALPHA = (np.pi / 2, 0.0, 0.0, np.pi / 2, -np.pi / 2, 0.0)
DAMPING = 1e-3
ITERATIONS = 60
HOME = np.array([0.0, -1.57, 1.57, -1.57, -1.57, 0.0])
"""Joint angles [rad] with the tool downwards, far from singularities."""


def list_frames(q: FloatArray) -> list[FloatArray]:
    """The base and the six links as matrices (4, 4) in the base."""
    frames = [np.eye(4)]
    for angle, d, a, alpha in zip(q, D, A, ALPHA, strict=True):
        cos, sin = np.cos(angle), np.sin(angle)
        up, over = np.cos(alpha), np.sin(alpha)
        link = np.array(
            [
                [cos, -sin * up, sin * over, a * cos],
                [sin, cos * up, -cos * over, a * sin],
                [0.0, over, up, d],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
        frames.append(frames[-1] @ link)
    return frames


def find_tool(q: FloatArray) -> FloatArray:
    """Position [m] and rotation vector [rad] of the flange (6,) in the base."""
    end = list_frames(q)[-1]
    return np.concatenate([end[:3, 3], Rotation.from_matrix(end[:3, :3]).as_rotvec()])


def _find_jacobian(frames: list[FloatArray]) -> FloatArray:
    """(6, 6): linear, then angular velocity of the flange by joint velocities."""
    end = frames[-1][:3, 3]
    columns = []
    for frame in frames[:-1]:
        axis = frame[:3, 2]
        columns.append(np.concatenate([np.cross(axis, end - frame[:3, 3]), axis]))
    return np.stack(columns, axis=1)


def solve(tool: FloatArray, near: FloatArray) -> FloatArray:
    """Joint angles (6,) for a pose of the flange (6,), by damped least squares from `near`.

    Raises HotstartError where the pose is out of reach.
    """
    q = np.array(near, np.float64)
    turn = Rotation.from_rotvec(tool[3:])
    for _ in range(ITERATIONS):
        frames = list_frames(q)
        end = frames[-1]
        spin = (turn * Rotation.from_matrix(end[:3, :3]).inv()).as_rotvec()
        error = np.concatenate([tool[:3] - end[:3, 3], spin])
        if np.abs(error).max() < 1e-7:
            return q
        jacobian = _find_jacobian(frames)
        square = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        q += np.clip(jacobian.T @ np.linalg.solve(square, error), -0.3, 0.3)
    raise HotstartError(f"the tool pose {np.round(tool, 3).tolist()} is out of reach from here")


class KinematicArm:
    """A `Body` without masses: its joints are where they were commanded, at once."""

    joints = 6

    def __init__(self, q: FloatArray = HOME) -> None:
        self._lock = threading.Lock()
        self._q = np.array(q, np.float64)
        self._qd = np.zeros(6)
        self._commanded_s = time.monotonic()
        self.powered = False

    def read(self) -> BodyState:
        """How it is now."""
        now = time.monotonic()
        with self._lock:
            q, qd = self._q.copy(), self._qd.copy()
            if now - self._commanded_s > 0.05:
                qd = np.zeros(6)
        return BodyState(now, q, qd, np.zeros(6), float("nan"), find_tool(q))

    def command(self, positions: FloatArray) -> None:
        """Be at these angles (6,); nothing happens without power."""
        now = time.monotonic()
        with self._lock:
            if not self.powered:
                return
            gone = max(now - self._commanded_s, 1e-4)
            self._qd = (np.asarray(positions, np.float64) - self._q) / gone
            self._q = np.array(positions, np.float64)
            self._commanded_s = now

    def command_gripper(self, opening: float) -> None:
        """It has none."""

    def set_power(self, on: bool) -> None:
        """Without power its brakes hold."""
        self.powered = on

    def solve_joints(self, tool: FloatArray, near: FloatArray) -> FloatArray:
        """See `solve`."""
        return solve(tool, near)
