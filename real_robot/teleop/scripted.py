"""A scripted operator: the demonstrator of a simulated scene, which sees what is measured.

It knows no more than a person beside the arm: the robot's observation, and in it what a stage
tracks. A scene of its own, a mirror, is posed as they say; the demonstrator looks at that.
"""

from __future__ import annotations

import numpy as np

from ...arms import SCENES, make_scene
from ...arms.demonstrators import DEMONSTRATORS
from ...arms.scene import Scene
from ...spec import ActionSpec, ConfigError, FloatArray, Observation
from .base import RobotView

TOOL = ("x", "y", "z", "rx", "ry", "rz")
TOOL_SCENE = "ur5e_push"
"""The scene of an arm whose actions are poses of its tool."""
REACH_RAD = 0.3
"""The first action is within this of every joint: an arm at rest refuses what is farther."""


class SceneOperator:
    """Does the task of a scene of `arms/`: it pushes a disc, or lifts a cube.

    It reads `joints`, `object` and, where the task has one, `goal`; stages track the last two.
    """

    def __init__(self, action_spec: ActionSpec, pace: float = 3.0) -> None:
        """Move an arm of this action; the action says which scene it is of.

        pace: how much farther than in simulation the tool is sent in a period: arms lag

        Raises ConfigError for an arm that no scene has.
        """
        if not pace > 0:
            raise ConfigError(f"pace is {pace}; a number above 0 is wanted")
        names = tuple(dim.name for dim in action_spec.dims)
        self._scene = find_scene(names)
        self._in_joints = names != TOOL
        self._at_rest = True
        self._demonstrator = DEMONSTRATORS[self._scene.name](not self._in_joints, pace)

    def start(self) -> None:
        """There is no device."""

    def begin(self, position: FloatArray) -> None:
        """The task is begun anew from where the arm is."""
        self._at_rest = True
        self._demonstrator.begin()

    def read(self, now_s: float, view: RobotView) -> FloatArray:
        """What the demonstrator does where things are as they are seen."""
        pose_scene(self._scene, view.observation)
        action = self._demonstrator.move(self._scene).action
        if self._in_joints and self._at_rest:
            action = _stay_near(action, view.position, self._scene.joints)
        self._at_rest = False
        return action

    def close(self) -> None:
        """There is no device."""


def _stay_near(action: FloatArray, position: FloatArray, joints: int) -> FloatArray:
    """The action (A,) with its first `joints` within REACH_RAD of where the arm is (A,)."""
    here = position[:joints]
    near = np.clip(action[:joints], here - REACH_RAD, here + REACH_RAD)
    return np.concatenate((near, action[joints:]))


def find_scene(names: tuple[str, ...]) -> Scene:
    """The scene of an arm by the names of its action; ConfigError where there is none."""
    if names == TOOL:
        return make_scene(TOOL_SCENE)
    for name in SCENES:
        scene = make_scene(name)
        if tuple(dim.name for dim in scene.arm.action_spec.dims) == names:
            return scene
    raise ConfigError(
        f"no scripted operator knows an arm that is told {', '.join(names)}; "
        f"scenes are {', '.join(SCENES)}"
    )


def pose_scene(scene: Scene, seen: Observation) -> None:
    """Pose a scene as an arm and a stage tell; ConfigError where they do not tell enough."""
    wanted = ["joints", "object"]
    if scene.has_goal:
        wanted.append("goal")
    for name in wanted:
        if name not in seen:
            raise ConfigError(
                f"a scripted operator reads {name!r}, and the robot shows {', '.join(seen)}: "
                "object and goal are tracked by a stage (stage=127.0.0.1:PORT)"
            )
    position, turn = np.split(np.asarray(seen["object"], np.float64), [3])
    scene.put_arm(np.asarray(seen["joints"], np.float64))
    scene.put_object(position.tolist(), float(np.arctan2(*turn)))
    if scene.has_goal:
        scene.put_goal(np.asarray(seen["goal"], np.float64).tolist())
    scene.update()
