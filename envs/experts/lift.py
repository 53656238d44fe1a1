"""A scripted expert for robosuite's Lift that sees the simulation's state: reach down over the cube, close, lift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...spec import FloatArray
from ..robosuite import STEP_M, STEP_RAD, LiftEnv

Phase = Literal["reach", "close", "lift"]
DOWN = np.array([0.0, 0.0, -1.0])
PUSH_SHARES = np.array([1.0, 1.0, 1.0, 0.4, 0.4, 0.4])
"""Turns are disturbed less than moves: a full turn (0.5 rad) upsets the grasp more than a full move (5 cm)."""


@dataclass(frozen=True)
class LiftOptions:
    """Gains, heights and tolerances of the expert."""

    gain: float = 1.5  # the goal's step as a share of the error
    max_speed: float = 0.65  # share of the action's full range
    hover_height_m: float = 0.07  # above the cube's centre, while the hand is not yet over it
    funnel_m: float = 0.03  # sideways error beyond which the hand stays at the hover height
    grasp_tolerance_m: float = 0.008
    grasp_tolerance_rad: float = 0.1
    close_ticks: int = 6
    lift_height_m: float = 0.15
    lost_m: float = 0.03  # a cube farther than this from the fingers is not held
    calm_m: float = 0.1  # nearer to the cube than this the pushes grow weaker


class LiftExpert:
    """Proportional control of the hand with limited speed; a cube that is lost or pushed away is reached for again.

    While reaching, the height follows the sideways error (high while far, down when over the cube), so approach and
    descent are one smooth motion that depends on the present state only, which is what a policy can learn.

    `noise` (share of the action's range, standard deviation) adds a slowly changing push to the motion, so that
    demonstrations also show how to come back to the path. It fades near the cube, where it would only prevent the grasp,
    and the gripper is never disturbed. `intended` is the last action
    without the push: the better label to learn from (DART, 1703.09327), as the push is no part of the skill.
    """

    def __init__(self, noise: float = 0.0, options: LiftOptions | None = None) -> None:
        self.noise = noise
        self.options = options or LiftOptions()
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        self._rng = rng
        self._phase: Phase = "reach"
        self._closed_ticks = 0
        self._push = np.zeros(6)
        self.intended: FloatArray = np.zeros(7)

    def act(self, env: LiftEnv) -> FloatArray:
        """The action (7,) in [-1, 1] for the present state of `env`."""
        offset_m, turn_rad = errors(env)
        self._choose_phase(offset_m, turn_rad)
        limit = self.options.max_speed
        move = limited(self.options.gain * self._way(offset_m) / STEP_M, limit)
        turn = limited(self.options.gain * turn_rad / STEP_RAD, limit)
        self.intended = np.array([*move, *turn, -1.0 if self._phase == "reach" else 1.0])
        push = self._next_push() * min(1.0, float(np.linalg.norm(offset_m)) / self.options.calm_m)
        return np.append(np.clip(self.intended[:6] + push, -1.0, 1.0), self.intended[6])

    def _choose_phase(self, offset_m: FloatArray, turn_rad: FloatArray) -> None:
        """Go on when a phase is fulfilled, back to reaching when the cube is not between the fingers."""
        distance_m, settings = float(np.linalg.norm(offset_m)), self.options
        if self._phase == "reach":
            aligned = float(np.linalg.norm(turn_rad)) < settings.grasp_tolerance_rad
            if aligned and distance_m < settings.grasp_tolerance_m:
                self._phase, self._closed_ticks = "close", 0
        elif distance_m > settings.lost_m:
            self._phase = "reach"
        if self._phase == "close":
            self._closed_ticks += 1
            if self._closed_ticks > settings.close_ticks:
                self._phase = "lift"

    def _way(self, offset_m: FloatArray) -> FloatArray:
        """Where the hand should go from where it is, (3,) [m]."""
        settings = self.options
        if self._phase == "lift":
            return np.array([0.0, 0.0, settings.lift_height_m])
        if self._phase == "close":
            return np.zeros(3)
        far = min(1.0, float(np.linalg.norm(offset_m[:2])) / settings.funnel_m)
        return offset_m + np.array([0.0, 0.0, settings.hover_height_m * far**2])

    def _next_push(self) -> FloatArray:
        """The disturbance of the motion, (6,): correlated over about five ticks."""
        if self.noise:
            self._push = 0.8 * self._push + 0.6 * self.noise * PUSH_SHARES * self._rng.standard_normal(6)
        return self._push


def limited(vector: FloatArray, longest: float) -> FloatArray:
    """The vector, shortened to length `longest` if it is longer: the direction stays."""
    return vector * min(1.0, longest / max(float(np.linalg.norm(vector)), 1e-9))


def errors(env: LiftEnv) -> tuple[FloatArray, FloatArray]:
    """From the fingers to the cube, in the world's axes: offset (3,) [m] and the turn that aligns the hand (3,) [rad].

    Aligned: the hand points down and its axes lie along the cube's, whichever of the four ways is nearest.
    """
    simulation = env.simulation
    data, gripper = simulation.sim.data, simulation.robots[0].gripper["right"]
    hand = data.get_site_xmat(gripper.important_sites["grip_site"])
    offset_m = data.body_xpos[simulation.cube_body_id] - data.get_site_xpos(gripper.important_sites["grip_site"])
    cube = data.body_xmat[simulation.cube_body_id].reshape(3, 3)
    quarter = np.pi / 2
    yaw_rad = (heading(cube) - heading(hand) + quarter / 2) % quarter - quarter / 2
    turn_rad: FloatArray = np.cross(hand[:, 2], DOWN)
    turn_rad[2] += yaw_rad
    return np.array(offset_m), turn_rad


def heading(rotation: FloatArray) -> float:
    """The direction of the first axis of a rotation matrix (3, 3) about the vertical [rad]."""
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))
