"""Arms on a table, with the action and observation of the real arms' drivers.

A scene of `arms/` as a `TaskEnv`: a policy that is trained here has the specifications of the
driver, and `hotstart deploy` takes it as it is.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..arms import make_scene
from ..arms.kinematics import ReachError
from ..arms.scene import PICTURE_PX
from ..spec import ActionDim, ActionSpec, ConfigError, FloatArray, ObsKey, ObsPart, ObsSpec
from .base import Observations, TaskEnv
from .cameras import CameraChoice, Cameras

Actions = Literal["joints", "tool"]
JOINT_RAD, TOOL_M = 0.002, 0.001
TOOL_RAD = 0.005
"""What joints and tools of arms can be told to: encoders, play, and how stiff motors are."""
PIECE_S = 0.01
"""The target moves on at 100 Hz, as a servo moves it."""
TOOL_SPEC = ActionSpec(
    (
        ActionDim("x", "m"),
        ActionDim("y", "m"),
        ActionDim("z", "m"),
        ActionDim("rx", "rad", "rotation"),
        ActionDim("ry", "rad", "rotation"),
        ActionDim("rz", "rad", "rotation"),
    )
)
"""The tool's pose in the base frame: a position and a rotation vector."""
TOOL_LOW = np.array([-1.0, -1.0, -0.5, -2 * np.pi, -2 * np.pi, -2 * np.pi])


class ArmEnv(TaskEnv):
    """An arm in its scene. Actions are absolute targets: joint angles, or poses of the tool.

    Observations, float32: `joints` (A,) [rad], then the gripper (0 closed to 1 open) where there
    is one; `tool` (6,) position [m] and rotation vector [rad] in the base frame; `object` (5,)
    position [m], sine and cosine of its yaw; `goal` (3,) [m] where the task has one; pictures under
    the names of their cameras. Within a control period the target goes evenly from the last action
    to the new one, no faster than the arm's limits allow: an action says where to be when its
    period ends.
    """

    scene_name: ClassVar[str]

    def __init__(
        self,
        max_steps: int,
        cameras: CameraChoice = None,
        actions: Actions = "joints",
        render_size: int = 256,
    ) -> None:
        if actions not in get_args(Actions):
            raise ConfigError(
                f"actions is {actions!r}; choose one of {', '.join(get_args(Actions))}"
            )
        self.scene = make_scene(self.scene_name)
        self.cameras = Cameras.of(cameras, side=PICTURE_PX, suffix="")
        self.cameras.check(self.scene.cameras)
        self.actions: Actions = actions
        self.render_size = render_size
        self.instruction = self.scene.instruction
        if actions == "tool":
            spec = TOOL_SPEC
            low, high = TOOL_LOW, -TOOL_LOW
        else:
            spec = self.scene.arm.action_spec
            low, high = self.scene.limits.lower, self.scene.limits.upper
        super().__init__(
            obs_spec=ObsSpec({**self._state_keys(), **self.cameras.keys}),
            action_spec=spec,
            action_low=low,
            action_high=high,
            rate_hz=self.scene.rate_hz,
            max_steps=max_steps,
        )
        self.substeps = round(1 / (self.rate_hz * PIECE_S))
        self._reference = self.scene.target  # (A,) where a servo would send the arm now
        self._done = 0  # substeps of the present control period

    def _state_keys(self) -> dict[str, ObsKey]:
        """The observed states, as the drivers and the scene give them."""
        width = self.scene.arm.action_spec.width
        joints = ObsPart("joints", width, precision=JOINT_RAD)
        tool = ObsPart("tool", 3, "position", precision=TOOL_M)
        rotation = ObsPart("rotation", 3, precision=TOOL_RAD)
        position = ObsPart("object", 3, "position", precision=TOOL_M)
        keys = {
            "joints": ObsKey((width,), parts=(joints,)),
            "tool": ObsKey((6,), parts=(tool, rotation)),
            "object": ObsKey((5,), parts=(position, ObsPart("yaw", 2, "angle"))),
        }
        if self.scene.has_goal:
            goal = ObsPart("goal", 3, "position", precision=TOOL_M)
            keys["goal"] = ObsKey((3,), parts=(goal,))
        return keys

    def _begin(self, options: dict[str, Any]) -> None:
        if options:
            raise ConfigError(f"unknown reset option {sorted(options)[0]!r}; there are none")
        seed = self.seed
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        self.scene.reset(seed)
        self._reference = self.scene.target
        self._done = 0

    def _advance(self, action: FloatArray, substeps: int) -> None:
        target = self._find_target(action)
        for _ in range(substeps):
            share = 1 / (self.substeps - self._done)
            self._reference = self._reference + share * (target - self._reference)
            self._done = (self._done + 1) % self.substeps
            self.scene.command_action(self._reference)
            self.scene.step(PIECE_S)

    def _find_target(self, action: FloatArray) -> FloatArray:
        """Where the arm is to be when the period ends (A,): the action, within the limits."""
        limits = self.scene.limits
        target = action
        if self.actions == "tool":
            target = self._solve_joints(action)
        step = limits.velocity * PIECE_S * (self.substeps - self._done)
        target = np.clip(target, self._reference - step, self._reference + step)
        return np.clip(target, limits.lower, limits.upper)

    def _solve_joints(self, tool: FloatArray) -> FloatArray:
        """Joint angles (J,) for a pose (6,); where it is out of reach the arm stays."""
        try:
            return self.scene.solve_joints(tool, self._reference)
        except ReachError:
            return self._reference

    def hold_position(self) -> FloatArray:
        """The target that the arm holds now."""
        if self.actions == "tool":
            return self.scene.solve_tool(self.scene.target)
        return self.scene.target

    def _observe(self) -> Observations:
        scene = self.scene
        yaw = scene.object_yaw
        seen = {
            "joints": scene.action,
            "tool": scene.tool,
            "object": np.array([*scene.object_position, np.sin(yaw), np.cos(yaw)]),
        }
        if scene.has_goal:
            seen["goal"] = scene.goal
        found: Observations = {}
        for name, value in seen.items():
            found[name] = value.astype(np.float32)
        for name, (height, width) in self.cameras.sizes.items():
            found[name] = scene.render(name, width, height)
        return found

    def _judge(self) -> tuple[float, bool]:
        return self.scene.judge()

    def _identity(self) -> tuple[Any, ...]:
        return (*super()._identity(), self.actions, *self.cameras.sizes.items())

    def _save(self) -> Any:
        return {
            "scene": self.scene.save(),
            "reference": self._reference.copy(),
            "done": self._done,
        }

    def _load(self, state: Any) -> None:
        self.scene.load(state["scene"])
        self._reference = state["reference"].copy()
        self._done = state["done"]

    def render(self) -> NDArray[np.uint8]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scene from the front, (H, W, 3) RGB; raises RenderingError where nothing can draw."""
        return self.scene.render("front", self.render_size, self.render_size)

    def close(self) -> None:
        """Give back the drawing surface."""
        self.scene.close()


class Ur5ePushEnv(ArmEnv):
    """A UR5e pushes a disc over the table into a marked region, with a stick, at 10 Hz."""

    scene_name = "ur5e_push"

    def __init__(
        self,
        max_steps: int = 120,
        cameras: CameraChoice = None,
        actions: Actions = "joints",
        render_size: int = 256,
    ) -> None:
        """Make the task with these options.

        max_steps: length of an episode [ticks of 0.1 s]
        cameras: cameras to observe, names or {name: side in px}: front, wrist
        actions: what actions are: joints (angles [rad]) or tool (position [m], rotation vector
        [rad])
        render_size: side of the pictures of a video [px]
        """
        super().__init__(max_steps, cameras, actions, render_size)


class So101LiftEnv(ArmEnv):
    """An SO-101 takes a cube from the table and lifts it, at 20 Hz."""

    scene_name = "so101_lift"

    def __init__(
        self, max_steps: int = 160, cameras: CameraChoice = None, render_size: int = 256
    ) -> None:
        """Make the task with these options.

        max_steps: length of an episode [ticks of 0.05 s]
        cameras: cameras to observe, names or {name: side in px}: front, wrist
        render_size: side of the pictures of a video [px]
        """
        super().__init__(max_steps, cameras, "joints", render_size)


class FrankaPushEnv(ArmEnv):
    """A Franka pushes a puck over the table into a marked region, with its open hand, at 10 Hz."""

    scene_name = "franka_push"

    def __init__(
        self, max_steps: int = 120, cameras: CameraChoice = None, render_size: int = 256
    ) -> None:
        """Make the task with these options.

        max_steps: length of an episode [ticks of 0.1 s]
        cameras: cameras to observe, names or {name: side in px}: front, wrist
        render_size: side of the pictures of a video [px]
        """
        super().__init__(max_steps, cameras, "joints", render_size)
