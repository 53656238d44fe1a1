"""Scripted demonstrators for the arms' scenes: they see the simulation's state.

What they do next depends on the present state, but for a grasp: that is what a policy can learn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from scipy.spatial.transform import Rotation

from ...arms.kinematics import ReachError
from ...arms.scene import Scene
from ...arms.so101 import HALF_OPEN, LiftScene
from ...arms.ur5e import DISC_RADIUS_M, STICK_RADIUS_M, TIP_HEIGHT_M
from ...spec import FloatArray
from ..arm import ArmEnv
from .push import Push

QUARTER = np.pi / 2
HIGHEST_M = 0.14
"""The lift aims so high; the task asks for less."""


class ArmDemonstrator(ABC):
    """Moves the tool; `noise` pushes it aside, as a share of the way that it goes in a tick."""

    step_m: float
    """How far the tool is sent in a tick at most."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.intended: FloatArray = np.zeros(0)
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        self._push = Push(np.ones(3), self.noise, rng)

    @abstractmethod
    def act(self, env: ArmEnv) -> FloatArray:
        """The action (A,) to execute now."""

    def _step(self, way: FloatArray) -> FloatArray:
        """The part of a way (3,) [m] that is gone in this tick."""
        return way * min(1.0, self.step_m / max(float(np.linalg.norm(way)), 1e-9))


class PushDemonstrator(ArmDemonstrator):
    """Goes round the disc until it is behind it, then pushes it towards the region."""

    step_m = 0.015
    contact_m = DISC_RADIUS_M + STICK_RADIUS_M
    """From the disc's middle to that of a stick that touches it."""
    around_m = 0.075
    """How far from the disc's middle it goes round it."""
    turn_rad = 0.6
    """How far round the disc it aims ahead."""
    behind_rad = 0.3
    """It pushes where it is off the line through disc and region by no more than that."""
    press_m = 0.02
    """It aims so far into the disc."""

    def act(self, env: ArmEnv) -> FloatArray:
        """The action (A,) to execute now: joint angles or a pose, as the environment takes them."""
        scene = env.scene
        here = scene.tool
        aim = self._aim(here[:2], scene.object_position[:2], scene.goal[:2])
        way = np.array([*(aim - here[:2]), TIP_HEIGHT_M - here[2]])
        step = self._step(way)
        push = self._push.next() * self.step_m * [1.0, 1.0, 0.0]
        self.intended = self._make_action(env, here[:3] + step)
        return self._make_action(env, here[:3] + step + push)

    def _aim(self, tip: FloatArray, disc: FloatArray, goal: FloatArray) -> FloatArray:
        """Where the tip (2,) should go."""
        away = np.arctan2(*(tip - disc)[::-1])
        behind = np.arctan2(*(disc - goal)[::-1])
        off = (behind - away + np.pi) % (2 * np.pi) - np.pi
        if abs(off) < self.behind_rad:
            # A little too far to the other side, so that the disc comes back to the line.
            return disc + (self.contact_m - self.press_m) * _point_at(behind + 0.5 * off)
        return disc + self.around_m * _point_at(away + np.clip(off, -self.turn_rad, self.turn_rad))

    def _make_action(self, env: ArmEnv, position: FloatArray) -> FloatArray:
        """The stick stands upright at a position (3,)."""
        pose = np.array([*position, *env.scene.arm.tool_reference])
        if env.actions == "tool":
            return pose
        return _solve_joints(env.scene, pose, env.scene.target)


class ArmLiftDemonstrator(ArmDemonstrator):
    """Comes down over the cube, closes the gripper and lifts; a cube that is lost is taken anew."""

    step_m = 0.010
    hover_m = 0.05
    """So high above the cube it comes from the side."""
    near_m, near_rad = 0.006, 0.12
    """It closes where the tool is so near to the cube, and turned like it."""
    close_ticks = 8
    lost_m = 0.03
    """Farther from the tool than this, the cube has not come along."""

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        super().reset(rng)
        self._closing = 0

    def act(self, env: ArmEnv) -> FloatArray:
        """The action (6,) to execute now: joint angles and the gripper's opening."""
        scene = env.scene
        assert isinstance(scene, LiftScene)
        here = scene.tool
        offset = scene.object_position - here[:3]
        heading = _read_heading(here)
        turn = (scene.object_yaw - heading + QUARTER / 2) % QUARTER - QUARTER / 2
        self._follow(offset, turn)
        step = self._step(self._find_way(offset, here[2]))
        calm = min(1.0, float(np.linalg.norm(offset)) / 0.1) * (self._closing == 0)
        push = self._push.next() * self.step_m * calm
        yaw = heading + float(np.clip(turn, -0.15, 0.15)) * (self._closing == 0)
        self.intended = self._make_action(scene, here[:3] + step, yaw)
        return self._make_action(scene, here[:3] + step + push, yaw)

    def _follow(self, offset: FloatArray, turn: float) -> None:
        """Count the ticks since the gripper began to close; 0: it has not."""
        distance = float(np.linalg.norm(offset))
        if self._closing and distance > self.lost_m:
            self._closing = 0
        elif self._closing or (distance < self.near_m and abs(turn) < self.near_rad):
            self._closing += 1

    def _find_way(self, offset: FloatArray, height: float) -> FloatArray:
        """Where the tool should go from where it is, (3,) [m]."""
        if self._closing > self.close_ticks:
            return np.array([0.0, 0.0, HIGHEST_M - height])
        if self._closing:
            return np.zeros(3)
        aside = float(np.hypot(*offset[:2]))
        above = self.hover_m * min(1.0, aside / 0.02)
        return offset + np.array([0.0, 0.0, above])

    def _make_action(self, scene: LiftScene, position: FloatArray, yaw: float) -> FloatArray:
        """The tool points down at a position (3,), turned by `yaw`."""
        turn = Rotation.from_euler("ZY", [yaw, QUARTER]).as_rotvec()
        joints = _solve_joints(scene, np.array([*position, *turn]), scene.positions)
        opening = HALF_OPEN * (self._closing == 0)
        return np.array([*scene.hold_up(joints), opening])


def _solve_joints(scene: Scene, pose: FloatArray, near: FloatArray) -> FloatArray:
    """Joint angles (J,) for a pose (6,); `near` (J,), where the arm is, for one out of reach."""
    try:
        return scene.solve_joints(pose, near)
    except ReachError:
        return near[: scene.joints]


def _point_at(angle: float) -> FloatArray:
    """The unit vector (2,) in a direction [rad]."""
    return np.array([np.cos(angle), np.sin(angle)])


def _read_heading(tool: FloatArray) -> float:
    """How far a tool that points down is turned about z [rad]."""
    closing = Rotation.from_rotvec(tool[3:]).as_matrix()[:, 2]
    return float(np.arctan2(closing[1], closing[0]))
