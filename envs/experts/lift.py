"""A scripted expert for robosuite's Lift that sees the simulation's state: reach down over the cube, close, lift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...spec import FloatArray
from ..robosuite import RobosuiteEnv
from .hand import QUARTER, Goal, Hand, HandExpert, funnelled, heading, nearest_turn

Phase = Literal["reach", "close", "lift"]


@dataclass(frozen=True)
class LiftOptions:
    """Heights and tolerances of the expert."""

    hover_height_m: float = 0.07  # above the cube's centre, while the hand is not yet over it
    funnel_m: float = 0.03  # sideways error beyond which the hand stays at the hover height
    grasp_tolerance_m: float = 0.008
    grasp_tolerance_rad: float = 0.1
    close_ticks: int = 6
    lift_height_m: float = 0.15
    lost_m: float = 0.03  # a cube farther than this from the fingers is not held
    calm_m: float = 0.1  # nearer to the cube than this the pushes grow weaker


class LiftExpert(HandExpert):
    """A cube that is lost or pushed away is reached for again.

    While reaching, the height follows the sideways error (high while far, down when over the cube), so approach and
    descent are one smooth motion that depends on the present state only, which is what a policy can learn. The pushes fade
    near the cube, where they would only prevent the grasp.
    """

    def __init__(self, noise: float = 0.0, options: LiftOptions | None = None) -> None:
        self.options = options or LiftOptions()
        super().__init__(noise)

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        super().reset(rng)
        self._phase: Phase = "reach"
        self._closed_ticks = 0

    def _goal(self, env: RobosuiteEnv, hand: Hand) -> Goal:
        offset_m, turn_rad = errors(env, hand)
        self._choose_phase(offset_m, turn_rad)
        calm = float(np.linalg.norm(offset_m)) / self.options.calm_m
        return Goal(self._way(offset_m), turn_rad, self._phase != "reach", calm)

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
        return funnelled(offset_m, settings.hover_height_m, settings.funnel_m)


def errors(env: RobosuiteEnv, hand: Hand | None = None) -> tuple[FloatArray, FloatArray]:
    """From the fingers to the cube, in the world's axes: offset (3,) [m] and the turn that aligns the hand (3,) [rad].

    Aligned: the hand points down and its axes lie along the cube's, whichever of the four ways is nearest.
    """
    hand = hand or Hand.of(env)
    data, cube = env.simulation.sim.data, env.simulation.cube_body_id
    turn_rad = hand.turn_down()
    turn_rad[2] += nearest_turn(hand.heading_rad, heading(data.body_xmat[cube].reshape(3, 3)), QUARTER)
    return np.array(data.body_xpos[cube]) - hand.position_m, turn_rad
