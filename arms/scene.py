"""An arm on a table with an object and a goal, simulated by MuJoCo.

The world's frame is the arm's base frame. Lengths are m, angles rad, times s.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..seeds import Purpose, numpy_generator
from ..spec import ActionDim, ActionSpec, FloatArray, Limits
from .kinematics import Kinematics
from .rendering import SceneRenderer, load_mujoco

STEP_S = 0.002
"""The physics step: 500 Hz."""
VISIBLE_GROUP, HIDDEN_GROUP = 2, 3
"""Groups of geoms that are drawn and that are not."""
PICTURE_PX = 96


@dataclass(frozen=True)
class ArmDescription:
    """What is known of an arm, whatever its scene."""

    joints: tuple[str, ...]
    """Names of the action's numbers, without the gripper."""
    model_joints: tuple[str, ...]
    """Names of the same joints in the model's file."""
    gripper_joint: str | None
    """Name of the gripper's joint in the model's file; None: the arm has no gripper."""
    limits: Limits
    """Of the action (A,): the joints, then the gripper where there is one."""
    tool_reference: FloatArray
    """(3,): the tool's rotation vector where it works; see `align_rotvec`."""
    turns: bool
    """Whether the tool can take every rotation: six joints or more."""
    brakes: bool
    """Whether brakes hold the arm that has no power; otherwise it falls."""

    @property
    def action_spec(self) -> ActionSpec:
        """Absolute targets of the joints [rad], and of the gripper (0 closed to 1 open)."""
        dims = [ActionDim(name, "rad") for name in self.joints]
        if self.gripper_joint is not None:
            dims.append(ActionDim("gripper", ""))
        return ActionSpec(tuple(dims))


class Scene(ABC):
    """An arm with a task. One thread at a time may use it, but for `kinematics`.

    A task builds a model with the arm, a free body `object` and, where there is a place to bring it
    to, a mocap body `goal`. It says how an episode begins (`_place`) and how well the task is
    fulfilled (`judge`).
    """

    name: str
    instruction: str
    rate_hz: float
    """Control periods a second of the policies that are made for it."""
    cameras: tuple[str, ...]
    start: FloatArray
    """(A,): where the arm begins the present episode."""

    def __init__(self, arm: ArmDescription) -> None:
        self._mujoco = load_mujoco()
        self.arm = arm
        self.limits = arm.limits
        self.joints = len(arm.joints)
        self.model = copy.copy(_build_once(type(self)))
        self.data = self._mujoco.MjData(self.model)
        self.kinematics = Kinematics(
            self.model, arm.model_joints, "tool", arm.tool_reference, arm.turns
        )
        names = [*arm.model_joints]
        if arm.gripper_joint is not None:
            names.append(arm.gripper_joint)
        numbers = [self.model.joint(name).id for name in names]
        self._places = self.model.jnt_qposadr[numbers]
        self._speeds = self.model.jnt_dofadr[numbers]
        self._gripper_range = self.model.jnt_range[numbers[-1]]
        self._object = int(self.model.body("object").jntadr[0])
        self.has_goal = self.model.nmocap > 0
        self._renderer: SceneRenderer | None = None
        self._power = True
        self.reset(0)

    @classmethod
    @abstractmethod
    def build(cls) -> Any:
        """The model (mjModel); its actuators are the action's numbers, in order."""

    @abstractmethod
    def _place(self, rng: np.random.Generator) -> None:
        """Begin an episode: put arm, object and goal somewhere, at rest."""

    @abstractmethod
    def judge(self) -> tuple[float, bool]:
        """(score in [0, 1], whether the task is fulfilled now)."""

    def reset(self, seed: int, arm: bool = True) -> None:
        """Begin an episode; the seed fixes all that is random in it.

        `arm`: whether the arm goes to its start at once, with power; otherwise it stays as it is,
        and only what else is in the scene is put anew.
        """
        data = self.data
        kept = [data.qpos[self._places], data.qvel[self._speeds], data.ctrl.copy(), data.time]
        self._mujoco.mj_resetData(self.model, data)
        if arm:
            self.set_power(True)
        self._place(numpy_generator(seed, Purpose.SCENE))
        self.start = self.action
        if not arm:
            data.qpos[self._places], data.qvel[self._speeds] = kept[:2]
            data.ctrl[:], data.time = kept[2:]
        self.update()

    def put_arm(self, action: FloatArray) -> None:
        """The arm is at an action (A,) at once, at rest, and stays there."""
        targets = self._targets(action)
        self.data.qpos[self._places] = targets
        self.data.qvel[self._speeds] = 0.0
        self.data.ctrl[:] = targets

    def put_object(self, position: Sequence[float], yaw: float) -> None:
        """The object lies at a position (3,), turned by `yaw` about z, at rest."""
        turn = [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
        self.put_object_pose(np.array([*position, *turn]), np.zeros(6))

    def put_object_pose(self, pose: FloatArray, speed: FloatArray) -> None:
        """The object is at a position with a quaternion (7,), w first, and moves with (6,)."""
        self.data.joint(self._object).qpos[:] = pose
        self.data.joint(self._object).qvel[:] = speed

    def put_speeds(self, velocities: FloatArray) -> None:
        """The joints move with these speeds (J,) [rad/s]."""
        self.data.qvel[self._speeds[: self.joints]] = velocities

    @property
    def object_pose(self) -> FloatArray:
        """(7,): the object's position [m] and quaternion, w first."""
        return np.array(self.data.joint(self._object).qpos)

    def put_goal(self, position: Sequence[float]) -> None:
        """The goal is at a position (3,)."""
        self.data.mocap_pos[0] = position

    def update(self) -> None:
        """Bring poses and forces up to date with what was put; no time passes."""
        self._mujoco.mj_forward(self.model, self.data)

    def command(self, positions: FloatArray) -> None:
        """Joint angles (J,) [rad] for the motors to go to, from the next step on."""
        if self._power:
            lower, upper = self.limits.lower, self.limits.upper
            count = self.joints
            self.data.ctrl[:count] = np.clip(positions, lower[:count], upper[:count])

    def command_gripper(self, opening: float) -> None:
        """0 closed to 1 open; of an arm without a gripper nothing happens."""
        if self._power and self.arm.gripper_joint is not None:
            self.data.ctrl[self.joints] = self._angle(opening)

    def command_action(self, action: FloatArray) -> None:
        """An action (A,): joint angles, then the gripper's opening where there is one."""
        self.command(action[: self.joints])
        if len(action) > self.joints:
            self.command_gripper(float(action[-1]))

    def set_power(self, on: bool) -> None:
        """Whether motors hold; without power brakes hold the arm where it is, or it falls."""
        if self._power and not on:
            self.data.ctrl[:] = self.data.qpos[self._places]
        limp = not on and not self.arm.brakes
        self.model.opt.disableactuator = int(limp)  # bit 0: all our actuators are in group 0
        if on and not self._power:
            self.data.ctrl[:] = self.data.qpos[self._places]
        self._power = on

    def step(self, dt_s: float = STEP_S) -> None:
        """Simulate for `dt_s`, in whole steps of 2 ms."""
        self._mujoco.mj_step(self.model, self.data, max(1, round(dt_s / STEP_S)))

    @property
    def action(self) -> FloatArray:
        """(A,): where the joints are, and the gripper, as an action would say it."""
        measured = np.array(self.data.qpos[self._places])
        if self.arm.gripper_joint is not None:
            measured[-1] = self.gripper
        return measured

    @property
    def target(self) -> FloatArray:
        """(A,): the action that the motors hold or go to now."""
        target = np.array(self.data.ctrl)
        if self.arm.gripper_joint is not None:
            target[-1] = self._opening(target[-1])
        return target

    @property
    def positions(self) -> FloatArray:
        """(J,) joint angles [rad]."""
        return np.array(self.data.qpos[self._places[: self.joints]])

    @property
    def velocities(self) -> FloatArray:
        """(J,) [rad/s]."""
        return np.array(self.data.qvel[self._speeds[: self.joints]])

    @property
    def torques(self) -> FloatArray:
        """(J,) of the motors, gravity compensation included [Nm]."""
        columns = self._speeds[: self.joints]
        return self.data.qfrc_actuator[columns] + self.data.qfrc_gravcomp[columns]

    @property
    def gripper(self) -> float:
        """0 closed to 1 open; nan: there is none."""
        if self.arm.gripper_joint is None:
            return float("nan")
        return self._opening(float(self.data.qpos[self._places[-1]]))

    @property
    def tool(self) -> FloatArray:
        """(6,): position [m] and rotation vector [rad] of the tool in the base frame."""
        return self.kinematics.read_tool(self.data)

    @property
    def object_position(self) -> FloatArray:
        """(3,) of the object's middle [m]."""
        place = self.model.jnt_qposadr[self._object]
        return np.array(self.data.qpos[place : place + 3])

    @property
    def object_yaw(self) -> float:
        """How far the object is turned about z [rad]."""
        place = self.model.jnt_qposadr[self._object]
        turn = self.data.qpos[place + 3 : place + 7]  # w, x, y, z
        sine = turn[0] * turn[3] + turn[1] * turn[2]
        return float(np.arctan2(2 * sine, 1 - 2 * (turn[2] ** 2 + turn[3] ** 2)))

    @property
    def object_speed(self) -> float:
        """Of the object's middle [m/s]."""
        speed = self.model.jnt_dofadr[self._object]
        return float(np.linalg.norm(self.data.qvel[speed : speed + 3]))

    @property
    def goal(self) -> FloatArray:
        """(3,) of the goal's middle [m], where there is a goal."""
        return np.array(self.data.mocap_pos[0])

    def solve_tool(self, positions: FloatArray) -> FloatArray:
        """The tool's pose (6,) for joint angles (J,) [rad]."""
        return self.kinematics.solve_tool(positions)

    def solve_joints(self, tool: FloatArray, near: FloatArray) -> FloatArray:
        """Joint angles (J,) [rad] for a pose (6,), next to `near` (J,); raises ReachError."""
        return self.kinematics.solve_joints(tool, near)

    def save(self) -> FloatArray:
        """All that the next step depends on, (n,); `load` puts it back."""
        which = self._mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(self._mujoco.mj_stateSize(self.model, which))
        self._mujoco.mj_getState(self.model, self.data, state, which)
        return np.append(state, self._power)

    def load(self, state: FloatArray) -> None:
        """Put back what `save` took, here or in another scene of the same task."""
        which = self._mujoco.mjtState.mjSTATE_INTEGRATION
        self.set_power(bool(state[-1]))
        self._mujoco.mj_setState(self.model, self.data, state[:-1], which)
        self._mujoco.mj_forward(self.model, self.data)  # positions in the world ...
        self._mujoco.mj_setState(self.model, self.data, state[:-1], which)  # ... not its warm start

    @property
    def visible_state(self) -> FloatArray:
        """All that a picture depends on, (n,): joints, object and goal."""
        return np.concatenate([self.data.qpos, self.data.mocap_pos.ravel()])

    def show(self, visible_state: FloatArray) -> None:
        """Pose the scene as in another of the same task; for pictures, not for simulation."""
        self.data.qpos[:] = visible_state[: self.model.nq]
        self.data.mocap_pos[:] = visible_state[self.model.nq :].reshape(-1, 3)
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_camlight(self.model, self.data)

    def render(
        self, camera: str = "front", width: int = PICTURE_PX, height: int = PICTURE_PX
    ) -> NDArray[np.uint8]:
        """A picture (height, width, 3) RGB; the drawing surface is opened at the first one.

        Raises ConfigError for an unknown camera, RenderingError where nothing can be drawn.
        """
        renderer = self._renderer
        if renderer is None or height > renderer.size[0] or width > renderer.size[1]:
            self.close()
            renderer = SceneRenderer(self.model, camera, (height, width), hidden=[0, HIDDEN_GROUP])
            self._renderer = renderer
        return renderer.frame(self.data, camera, (height, width))

    def close(self) -> None:
        """Give back the drawing surface."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = None

    def _targets(self, action: FloatArray) -> FloatArray:
        """An action (A,) as angles of the model's joints."""
        targets = np.clip(action, self.limits.lower, self.limits.upper)
        if self.arm.gripper_joint is not None:
            targets[-1] = self._angle(float(targets[-1]))
        return targets

    def _angle(self, opening: float) -> float:
        """The gripper's joint [rad] for an opening."""
        closed, opened = self._gripper_range
        return float(closed + min(1.0, max(0.0, opening)) * (opened - closed))

    def _opening(self, angle: float) -> float:
        """The opening for an angle of the gripper's joint [rad]; it may lie a little outside."""
        closed, opened = self._gripper_range
        return float((angle - closed) / (opened - closed))


@cache
def _build_once(kind: type[Scene]) -> Any:
    """The model of a kind of scene: it takes a second, a copy of it a millisecond."""
    return kind.build()
