"""Scripted demonstrators for the arms' scenes: they see the simulation's state.

What they do next depends on the present state, but for a grasp: that is what a policy can learn.
They move an environment's arm, or a real one whose scene is a mirror of what is measured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ..spec import FloatArray
from . import franka
from .kinematics import ReachError
from .scene import Scene
from .so101 import HALF_OPEN, LiftScene
from .ur5e import DISC_RADIUS_M, STICK_RADIUS_M, TIP_HEIGHT_M

QUARTER = np.pi / 2
HIGHEST_M = 0.14
"""The lift aims so high; the task asks for less."""


NO_PUSH = np.zeros(3)


class Move(NamedTuple):
    """What a demonstrator does next."""

    intended: FloatArray
    """(A,)"""
    action: FloatArray
    """(A,) the same with the push."""


class ArmDemonstrator(ABC):
    """Moves the tool of a scene's arm."""

    step_m: float
    """How far the tool is sent in a tick at most."""

    def __init__(self, tool_actions: bool = False, pace: float = 1.0) -> None:
        """Move an arm.

        tool_actions: actions are poses of the tool (6,), not joint angles (J,)
        pace: `step_m` is so many times as long; an arm that lags comes as far as others then
        """
        self.tool_actions = tool_actions
        self.step_m = self.step_m * pace

    @abstractmethod
    def begin(self) -> None:
        """Begin an episode."""

    @abstractmethod
    def move(self, scene: Scene, push: FloatArray = NO_PUSH) -> Move:
        """What to do now; `push` (3,) moves the tool aside, as a share of `step_m`."""

    def _step(self, way: FloatArray) -> FloatArray:
        """The part of a way (3,) [m] that is gone in this tick."""
        return way * min(1.0, self.step_m / max(float(np.linalg.norm(way)), 1e-9))


class DiscPusher(ArmDemonstrator):
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

    def begin(self) -> None:
        """It remembers nothing."""

    def move(self, scene: Scene, push: FloatArray = NO_PUSH) -> Move:
        """Joint angles or a pose."""
        here = scene.tool
        aim = self._aim(here[:2], scene.object_position[:2], scene.goal[:2])
        way = np.array([*(aim - here[:2]), TIP_HEIGHT_M - here[2]])
        step = self._step(way)
        aside = push * self.step_m * [1.0, 1.0, 0.0]
        return _move_aside(lambda place: self._make_action(scene, place), here[:3] + step, aside)

    def _aim(self, tip: FloatArray, disc: FloatArray, goal: FloatArray) -> FloatArray:
        """Where the tip (2,) should go."""
        away = np.arctan2(*(tip - disc)[::-1])
        behind = np.arctan2(*(disc - goal)[::-1])
        off = (behind - away + np.pi) % (2 * np.pi) - np.pi
        if abs(off) < self.behind_rad:
            # A little too far to the other side, so that the disc comes back to the line.
            return disc + (self.contact_m - self.press_m) * _point_at(behind + 0.5 * off)
        return disc + self.around_m * _point_at(away + np.clip(off, -self.turn_rad, self.turn_rad))

    def _make_action(self, scene: Scene, position: FloatArray) -> FloatArray:
        """The stick stands upright at a position (3,)."""
        pose = np.array([*position, *scene.arm.tool_reference])
        if self.tool_actions:
            return pose
        return _solve_joints(scene, pose, scene.target)


class CubeLifter(ArmDemonstrator):
    """Comes down over the cube, closes the gripper and lifts; a cube that is lost is taken anew."""

    step_m = 0.010
    hover_m = 0.05
    """So high above the cube it comes from the side."""
    near_m, near_rad = 0.006, 0.12
    """It closes where the tool is so near to the cube, and turned like it."""
    close_ticks = 8
    lost_m = 0.03
    """Farther from the tool than this, the cube has not come along."""
    lost_lagging_m = 0.045
    """The same for an arm that lags: it lifts later, and the cube slips by some mm meanwhile."""

    def __init__(self, tool_actions: bool = False, pace: float = 1.0) -> None:
        super().__init__(tool_actions, pace)
        if pace > 1:
            self.lost_m = self.lost_lagging_m
        self._closing = 0

    def begin(self) -> None:
        """The gripper is open."""
        self._closing = 0

    def move(self, scene: Scene, push: FloatArray = NO_PUSH) -> Move:
        """Joint angles and the gripper's opening (6,)."""
        assert isinstance(scene, LiftScene)
        here = scene.tool
        offset = scene.object_position - here[:3]
        heading = _read_heading(here)
        turn = (scene.object_yaw - heading + QUARTER / 2) % QUARTER - QUARTER / 2
        self._follow(offset, turn)
        step = self._step(self._find_way(offset, here[2]))
        calm = min(1.0, float(np.linalg.norm(offset)) / 0.1) * (self._closing == 0)
        aside = push * self.step_m * calm
        yaw = heading + float(np.clip(turn, -0.15, 0.15)) * (self._closing == 0)
        return _move_aside(
            lambda place: self._make_action(scene, place, yaw), here[:3] + step, aside
        )

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


class PuckPusher(ArmDemonstrator):
    """Comes from behind the puck, takes it between the fingers, and goes where the region is."""

    step_m = 0.010
    nest_m = 0.041
    """From the tool to the middle of a puck that both fingers touch."""
    back_m = 0.06
    """So much farther behind the puck it comes from the side."""
    straight_m, aside_m = 0.01, 0.03
    """It goes straight on where it is less aside than the first, and from the side alone at the
    second.
    """
    near_m = 0.012
    """As far from the puck's nest it begins to push."""

    def begin(self) -> None:
        """It remembers nothing."""

    def move(self, scene: Scene, push: FloatArray = NO_PUSH) -> Move:
        """Joint angles and the hand's opening (8,)."""
        here = scene.tool
        aim = self._aim(here[:2], scene.object_position[:2], scene.goal[:2])
        step = self._step(np.array([*aim, franka.TIP_HEIGHT_M]) - here[:3])
        aside = push * self.step_m * [1.0, 1.0, 0.5]
        return _move_aside(lambda place: self._make_action(scene, place), here[:3] + step, aside)

    def _aim(self, tip: FloatArray, puck: FloatArray, goal: FloatArray) -> FloatArray:
        """Where the tip (2,) should go."""
        aside = np.interp(abs(puck[1] - tip[1]), [self.straight_m, self.aside_m], [0.0, 1.0])
        nest = puck - [self.nest_m + self.back_m * aside, 0.0]
        away = float(np.linalg.norm(nest - tip))
        return nest + (goal - puck) * max(0.0, 1.0 - away / self.near_m)

    def _make_action(self, scene: Scene, position: FloatArray) -> FloatArray:
        """The open hand points down at a position (3,)."""
        pose = np.array([*position, *scene.arm.tool_reference])
        try:
            return np.array([*scene.solve_joints(pose, franka.HOME), 1.0])
        except ReachError:
            return scene.target


def _move_aside(
    make_action: Callable[[FloatArray], FloatArray], place: FloatArray, aside: FloatArray
) -> Move:
    """The move to a place (3,), and to one so far aside (3,) [m]; solved once where both agree."""
    intended = make_action(place)
    if not aside.any():
        return Move(intended, intended)
    return Move(intended, make_action(place + aside))


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


DEMONSTRATORS: dict[str, type[ArmDemonstrator]] = {
    "ur5e_push": DiscPusher,
    "so101_lift": CubeLifter,
    "franka_push": PuckPusher,
}
"""Scene -> the demonstrator for it."""
