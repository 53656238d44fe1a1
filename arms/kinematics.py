"""Forward and inverse kinematics of an arm in a MuJoCo model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..spec import FloatArray, HotstartError
from .poses import align_rotvec
from .rendering import load_mujoco

DAMPING = 1e-3
LARGEST_STEP_RAD = 0.3
ITERATIONS = 100
CLOSE_M, CLOSE_RAD = 1e-4, 1e-3
"""How near to the pose the search ends."""
NEAR_ENOUGH_M = 1e-3
"""As near as that is near enough for an arm that cannot take every rotation."""
ROTATION_M = 0.05
"""What an error of 1 rad counts of an arm that cannot take every rotation [m]."""
SETTLING, FADING = 30, 0.8
"""For so many steps it counts fully, then less with every step."""


class ReachError(HotstartError):
    """No joint angles bring the tool to the pose."""


class Kinematics:
    """An arm's joints and its tool. Methods may be called from any thread."""

    def __init__(
        self,
        model: Any,
        joints: Sequence[str],
        site: str,
        reference: FloatArray,
        turns: bool = True,
    ) -> None:
        """The arm `joints` of a model (mjModel) with the tool at a site.

        `reference` (3,) is the rotation vector on whose side those of poses are given.
        `turns`: whether the arm can take every rotation; an arm of five joints comes as near to it
        as it can.
        """
        self._mujoco = load_mujoco()
        self._model, self._data = model, self._mujoco.MjData(model)
        self._site = model.site(site).id
        numbers = [model.joint(name).id for name in joints]
        self._places = model.jnt_qposadr[numbers]
        self._columns = model.jnt_dofadr[numbers]
        self._lower, self._upper = model.jnt_range[numbers].T
        self._reference = np.asarray(reference, np.float64)
        self._turns = turns
        self._lock = threading.Lock()

    def read_tool(self, data: Any) -> FloatArray:
        """The tool's pose (6,) in a state (mjData) whose kinematics are up to date."""
        rotvec = self._find_rotvec(self._find_quaternion(data))
        return np.concatenate([data.site_xpos[self._site], align_rotvec(rotvec, self._reference)])

    def solve_tool(self, positions: FloatArray) -> FloatArray:
        """The tool's pose (6,) for joint angles (J,) [rad]."""
        with self._lock:
            self._move(positions)
            return self.read_tool(self._data)

    def solve_joints(self, tool: FloatArray, near: FloatArray) -> FloatArray:
        """Joint angles (J,) [rad] for a pose (6,), searched from `near` (J,).

        Damped least squares (Wampler 1986). Raises ReachError where no angles within the limits of
        the joints are found.
        """
        tool = np.asarray(tool, np.float64)
        positions = np.clip(np.asarray(near, np.float64), self._lower, self._upper)
        if not (np.isfinite(tool).all() and np.isfinite(positions).all()):
            raise ReachError(f"the pose is {tool.tolist()}; it must hold six finite numbers")
        goal = self._to_quaternion(tool[3:])
        error = np.full(6, np.inf)
        with self._lock:
            for turn in range(ITERATIONS):
                self._move(positions)
                error = self._find_error(tool[:3], goal)
                if self._is_close(error, turn):
                    return positions
                positions = positions + self._find_step(error, positions, turn)
        if not self._turns and np.linalg.norm(error[:3]) < NEAR_ENOUGH_M:
            return positions  # with joints at their limits it comes near slowly
        raise ReachError(
            f"the pose {np.round(tool, 3).tolist()} is out of reach: the nearest found is "
            f"{np.linalg.norm(error[:3]):.3f} m and {np.linalg.norm(error[3:]):.2f} rad away"
        )

    def _move(self, positions: FloatArray) -> None:
        self._data.qpos[self._places] = positions
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_comPos(self._model, self._data)

    def _find_error(self, position: FloatArray, goal: FloatArray) -> FloatArray:
        """What is missing to the pose, (6,) [m, rad], in the base's axes."""
        turn = self._find_quaternion(self._data)
        self._mujoco.mju_negQuat(turn, turn)
        self._mujoco.mju_mulQuat(turn, goal, turn.copy())
        return np.concatenate(
            [position - self._data.site_xpos[self._site], self._find_rotvec(turn)]
        )

    def _find_quaternion(self, data: Any) -> FloatArray:
        """The tool's rotation as a quaternion (4,), w first."""
        quaternion = np.empty(4)
        self._mujoco.mju_mat2Quat(quaternion, data.site_xmat[self._site])
        return quaternion

    def _find_rotvec(self, quaternion: FloatArray) -> FloatArray:
        """The rotation vector (3,) of a quaternion (4,), at most pi long."""
        rotvec = np.empty(3)
        self._mujoco.mju_quat2Vel(rotvec, quaternion, 1.0)
        return rotvec

    def _to_quaternion(self, rotvec: FloatArray) -> FloatArray:
        """The quaternion (4,) of a rotation vector (3,)."""
        angle = float(np.linalg.norm(rotvec))
        quaternion = np.empty(4)
        self._mujoco.mju_axisAngle2Quat(quaternion, rotvec / max(angle, 1e-12), angle)
        return quaternion

    def _is_close(self, error: FloatArray, turn: int) -> bool:
        """Whether the pose is reached; in later turns the position is enough for some arms."""
        if np.linalg.norm(error[:3]) >= CLOSE_M:
            return False
        settled = not self._turns and turn >= SETTLING
        return settled or float(np.linalg.norm(error[3:])) < CLOSE_RAD

    def _find_step(self, error: FloatArray, positions: FloatArray, turn: int) -> FloatArray:
        """A step (J,) of damped least squares, of bounded length and within the joints' limits.

        Of an arm that cannot take every rotation the position counts more with every turn.
        """
        jacobian = np.zeros((6, self._model.nv))
        self._mujoco.mj_jacSite(self._model, self._data, jacobian[:3], jacobian[3:], self._site)
        jacobian = jacobian[:, self._columns]
        if not self._turns:
            weight = ROTATION_M * FADING ** max(0, turn - SETTLING)
            jacobian[3:] *= weight
            error = np.concatenate([error[:3], weight * error[3:]])
        step = np.zeros(len(positions))
        blocked = np.zeros(len(positions), bool)
        for _ in positions:
            # Joints at their limits go no further: the others do what is left.
            left = error - jacobian[:, blocked] @ step[blocked]
            step[~blocked] = _solve_damped(jacobian[:, ~blocked], left)
            step *= min(1.0, LARGEST_STEP_RAD / max(float(np.abs(step).max()), 1e-12))
            bounded = np.clip(positions + step, self._lower, self._upper) - positions
            stopped = np.abs(bounded - step) > 1e-12
            step = bounded
            if not stopped.any():
                break
            blocked |= stopped
        return step


def _solve_damped(jacobian: FloatArray, error: FloatArray) -> FloatArray:
    """The step (J,) that removes an error (n,): least squares with a damping of the step."""
    square = jacobian @ jacobian.T + DAMPING**2 * np.eye(len(error))
    return jacobian.T @ np.linalg.solve(square, error)
