"""What scripted demonstrators of one-armed robosuite tasks share: the hand's pose, proportional
control of it, disturbances.

A task's demonstrator says where the hand should go from here (`Goal`); how fast it goes there, how
it is disturbed on the way and what is written down as its intention are settled here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...spec import FloatArray
from ..robosuite.env import STEP_M, STEP_RAD, RobosuiteEnv
from .push import Push

DOWN = np.array([0.0, 0.0, -1.0])
PUSH_SHARES = np.array([1.0, 1.0, 1.0, 0.4, 0.4, 0.4])
"""Turns are disturbed less than moves: a full turn (0.5 rad) upsets the grasp more than a full move
(5 cm).
"""
QUARTER, HALF = np.pi / 2, np.pi
"""Turns about the vertical that leave a square, or the two fingers of a hand, as they were [rad].
"""


@dataclass(frozen=True)
class Hand:
    """Pose of the point between the fingers, in the world's axes; the fingers open along the hand's
    first axis.
    """

    position_m: FloatArray  # (3,)
    rotation: (
        FloatArray  # (3, 3), columns are the hand's axes; the third one points out of the palm
    )

    @classmethod
    def of(cls, env: RobosuiteEnv) -> Hand:
        """The present pose of the (first) arm's hand."""
        data, gripper = env.simulation.sim.data, env.simulation.robots[0].gripper["right"]
        site = gripper.important_sites["grip_site"]
        return cls(np.array(data.get_site_xpos(site)), np.array(data.get_site_xmat(site)))

    @property
    def heading_rad(self) -> float:
        """Direction in which the fingers open, about the vertical."""
        return heading(self.rotation)

    def turn_down(self) -> FloatArray:
        """The turn (3,) [rad] that lets the hand point straight down, its heading left alone."""
        return self.turn_toward(DOWN)

    def turn_toward(self, direction: FloatArray) -> FloatArray:
        """The turn (3,) [rad], exact when small, that lets the hand point in a direction, a unit
        vector (3,).
        """
        return np.cross(self.rotation[:, 2], direction)


@dataclass(frozen=True)
class Goal:
    """What the hand should do now."""

    offset_m: FloatArray  # (3,) from where it is
    turn_rad: FloatArray  # (3,) about the world's axes
    close: bool
    calm: float = 1.0
    """Share of the disturbance to let through: less where it would only spoil what needs care."""


@dataclass(frozen=True)
class GraspOptions:
    """When a grasp begins, how long the fingers take, and when what they hold is lost."""

    tolerance_m: float
    tolerance_rad: float
    close_ticks: int
    lost_m: float  # what is farther than this from the fingers is not held


class Fingers:
    """Whether closing fingers have come to rest, be it on something thin or thick.

    Waiting a fixed time instead would be a clock that nobody sees: a policy then reads the time off
    the fingers' opening, and where they stop early, on something thick, it waits for ever.
    """

    STILL = 0.15
    """At rest is what moves less than this share of its fastest motion."""
    LEAST_TICKS = 3

    def __init__(self) -> None:
        self._before: FloatArray | None = None
        self._fastest, self._ticks = 0.0, 0

    def at_rest(self, env: RobosuiteEnv) -> bool:
        """Look at the fingers once per tick, from the first tick of closing on."""
        simulation = env.simulation
        joints = np.array(
            simulation.sim.data.qpos[simulation.robots[0]._ref_gripper_joint_pos_indexes["right"]]
        )
        if self._before is None:
            moved = 0.0
        else:
            moved = float(np.abs(joints - self._before).max())
        self._before = joints
        self._fastest = max(self._fastest, moved)
        self._ticks += 1
        return self._ticks > self.LEAST_TICKS and moved < self.STILL * self._fastest


class Grasp:
    """reach -> close -> held, and back to reach whenever what is held is lost."""

    def __init__(self, options: GraspOptions) -> None:
        self.options = options
        self.phase: Literal["reach", "close", "held"] = "reach"
        self._closed_ticks = 0

    def update(self, offset_m: FloatArray, turn_rad: FloatArray) -> None:
        """Go on by what is missing between hand and grasp: an offset (3,) [m] and a turn (3,)
        [rad].
        """
        distance_m, options = float(np.linalg.norm(offset_m)), self.options
        if self.phase == "reach":
            aligned = float(np.linalg.norm(turn_rad)) < options.tolerance_rad
            if aligned and distance_m < options.tolerance_m:
                self.phase, self._closed_ticks = "close", 0
        elif distance_m > options.lost_m:
            self.phase = "reach"
        if self.phase == "close":
            self._closed_ticks += 1
            if self._closed_ticks > options.close_ticks:
                self.phase = "held"


@dataclass(frozen=True)
class Drive:
    """How the hand is driven to its goal."""

    gain: float = 1.5  # the controller's step as a share of the error
    max_speed: float = 0.65  # share of the action's full range


class HandDemonstrator(ABC):
    """Proportional control of the hand with limited speed.

    `noise` (share of the action's range, standard deviation) adds a slowly changing push to the
    motion, so that demonstrations also show how to come back to the path; the gripper is never
    disturbed. `intended` is the last action without the push: the better label to learn from (DART,
    1703.09327), as the push is no part of the skill.
    """

    drive = Drive()

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        self._push = Push(PUSH_SHARES, self.noise, rng)
        self.intended: FloatArray = np.zeros(7)

    def act(self, env: RobosuiteEnv) -> FloatArray:
        """The action (7,) for the present state of `env`, as its control wants it."""
        goal = self._goal(env, Hand.of(env))
        move = limit_length(self.drive.gain * goal.offset_m / STEP_M, self.drive.max_speed)
        turn = limit_length(self.drive.gain * goal.turn_rad / STEP_RAD, self.drive.max_speed)
        intended = np.array([*move, *turn, 1.0 if goal.close else -1.0])
        push = self._push.next() * min(1.0, goal.calm)
        self.intended = env.command(intended)
        return env.command(np.append(np.clip(intended[:6] + push, -1.0, 1.0), intended[6]))

    @abstractmethod
    def _goal(self, env: RobosuiteEnv, hand: Hand) -> Goal:
        """What the hand should do in the present state."""


def limit_length(vector: FloatArray, longest: float) -> FloatArray:
    """The vector, shortened to length `longest` if it is longer: the direction stays."""
    return vector * min(1.0, longest / max(float(np.linalg.norm(vector)), 1e-9))


def funnel(offset_m: FloatArray, height_m: float, funnel_m: float) -> FloatArray:
    """The way (3,) to a point by coming down over it: `height_m` above it until the sideways error
    is below `funnel_m`.
    """
    far = min(1.0, float(np.linalg.norm(offset_m[:2])) / funnel_m)
    return offset_m + np.array([0.0, 0.0, height_m * far**2])


def heading(rotation: FloatArray) -> float:
    """The direction of the first axis of a rotation matrix (3, 3) about the vertical [rad]."""
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def nearest_turn(from_rad: float, to_rad: float, symmetry_rad: float = 2 * np.pi) -> float:
    """The smallest turn from one heading to another, where turns by `symmetry_rad` change
    nothing.
    """
    return float((to_rad - from_rad + symmetry_rad / 2) % symmetry_rad - symmetry_rad / 2)
