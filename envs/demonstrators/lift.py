"""A scripted demonstrator for robosuite's Lift that sees the simulation's state: reach down over
the cube, close, lift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...spec import FloatArray
from ..robosuite.env import RobosuiteEnv
from .hand import (
    QUARTER,
    Goal,
    Grasp,
    GraspOptions,
    Hand,
    HandDemonstrator,
    funnel,
    heading,
    nearest_turn,
)

GRASP = GraspOptions(tolerance_m=0.008, tolerance_rad=0.1, close_ticks=6, lost_m=0.03)


@dataclass(frozen=True)
class LiftOptions:
    """Heights of the demonstrator."""

    hover_height_m: float = 0.07  # above the cube's centre, while the hand is not yet over it
    funnel_m: float = 0.03  # sideways error beyond which the hand stays at the hover height
    lift_height_m: float = 0.15
    calm_m: float = 0.1  # nearer to the cube than this the pushes grow weaker


class LiftDemonstrator(HandDemonstrator):
    """A cube that is lost or pushed away is reached for again.

    While reaching, the height follows the sideways error (high while far, down when over the cube),
    so approach and descent are one smooth motion that depends on the present state only, which is
    what a policy can learn. The pushes fade near the cube, where they would only prevent the grasp.
    """

    def __init__(self, noise: float = 0.0, options: LiftOptions | None = None) -> None:
        self.options = options or LiftOptions()
        super().__init__(noise)

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        super().reset(rng)
        self._grasp = Grasp(GRASP)

    def _goal(self, env: RobosuiteEnv, hand: Hand) -> Goal:
        offset_m, turn_rad = errors(env, hand)
        self._grasp.update(offset_m, turn_rad)
        calm = float(np.linalg.norm(offset_m)) / self.options.calm_m
        return Goal(self._way(offset_m), turn_rad, self._grasp.phase != "reach", calm)

    def _way(self, offset_m: FloatArray) -> FloatArray:
        """Where the hand should go from where it is, (3,) [m]."""
        settings = self.options
        if self._grasp.phase == "held":
            return np.array([0.0, 0.0, settings.lift_height_m])
        if self._grasp.phase == "close":
            return np.zeros(3)
        return funnel(offset_m, settings.hover_height_m, settings.funnel_m)


def errors(env: RobosuiteEnv, hand: Hand | None = None) -> tuple[FloatArray, FloatArray]:
    """From the fingers to the cube, in the world's axes: offset (3,) [m] and the turn that aligns
    the hand (3,) [rad].

    Aligned: the hand points down and its axes lie along the cube's, whichever of the four ways is
    nearest.
    """
    hand = hand or Hand.of(env)
    data, cube = env.simulation.sim.data, env.simulation.cube_body_id
    turn_rad = hand.turn_down()
    turn_rad[2] += nearest_turn(
        hand.heading_rad, heading(data.body_xmat[cube].reshape(3, 3)), QUARTER
    )
    return np.array(data.body_xpos[cube]) - hand.position_m, turn_rad
