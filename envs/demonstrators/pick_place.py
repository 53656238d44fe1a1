"""Scripted demonstrators that pick something up and put it down elsewhere: robosuite's Can, Square
and Stack, for any of its arms.

reach -> close -> carry -> release, decided by the present state wherever that is possible, so that
what is lost is reached for again and a policy can learn it: the height follows the sideways error
on both ways down, and sideways motion waits until what is carried is high enough.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...spec import FloatArray
from ..robosuite.env import RobosuiteEnv
from .hand import (
    HALF,
    QUARTER,
    Fingers,
    Goal,
    Hand,
    HandDemonstrator,
    funnel,
    heading,
    nearest_turn,
)

Phase = Literal["reach", "close", "carry", "release"]
MOST_STRAIN_RAD = 2.2
"""A hand turned farther than this from its initial heading comes near the limits of the arm's last
joint.
"""


@dataclass(frozen=True)
class PickPlaceOptions:
    """Heights, tolerances and times of a demonstrator."""

    hover_height_m: float = 0.08  # above the grasp, while the hand is not yet over it
    funnel_m: float = 0.03  # sideways error beyond which the hand stays high
    grasp_tolerance_m: float = 0.008
    grasp_tolerance_rad: float = 0.1
    most_close_ticks: int = 16  # fingers that have not come to rest by then are taken for closed
    clearance_m: float = 0.1  # above the place, while what is carried is not yet over it
    rise_margin_m: float = 0.04  # below the clearance by this much, nothing moves sideways
    place_tolerance_m: float = 0.006
    place_tolerance_rad: float = 0.06
    open_ticks: int = 6
    give_up_ticks: int = 25  # after a release that did not succeed, begin again
    retreat_m: float = 0.12
    lost_m: float = (
        0.035  # what is farther than this from where the fingers should hold it is not held
    )
    calm_m: float = 0.1  # nearer to the grasp or the place than this the pushes grow weaker


@dataclass(frozen=True)
class Scene:
    """What a task's demonstrator reads from the simulation: where to grasp, and what is missing to
    the place.
    """

    grasp_m: FloatArray  # (3,) where the fingers should hold
    grasp_headings_rad: Sequence[
        float
    ]  # directions in which the fingers may open there; empty: any
    gap_m: FloatArray  # (3,) from where the object is to where it shall be let go
    turns_rad: Sequence[float] = ()
    """About the vertical: any of them lets the object fit its place; empty: it fits as it is."""


class PickPlaceDemonstrator(HandDemonstrator):
    """Pick up, carry over, put down; a task says where (`_scene`)."""

    options = PickPlaceOptions()

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        super().reset(rng)
        self._phase: Phase = "reach"
        self._enter("reach")
        self._preferred_rad: float | None = None

    @abstractmethod
    def _scene(self, env: RobosuiteEnv) -> Scene:
        """The present state as this task sees it."""

    def _goal(self, env: RobosuiteEnv, hand: Hand) -> Goal:
        scene = self._scene(env)
        if self._preferred_rad is None:
            self._preferred_rad = (
                hand.heading_rad
            )  # an arm's initial pose is far from its joints' limits
        way = {
            "reach": self._reach,
            "close": self._close,
            "carry": self._carry,
            "release": self._release,
        }
        self._ticks += 1
        closed = self._phase == "close" and (
            self._fingers.at_rest(env) or self._ticks > self.options.most_close_ticks
        )
        if (
            self._phase in ("close", "carry")
            and np.linalg.norm(scene.grasp_m - hand.position_m) > self.options.lost_m
        ):
            self._enter("reach")
        elif closed:
            self._enter("carry")
        return way[self._phase](hand, scene)

    def _enter(self, phase: Phase) -> None:
        self._phase, self._ticks = phase, 0
        self._fingers = Fingers()

    def _reach(self, hand: Hand, scene: Scene) -> Goal:
        settings = self.options
        offset_m = scene.grasp_m - hand.position_m
        turn_rad = hand.turn_down()
        turn_rad[2] += self._grasp_turn(hand, scene)
        near = float(np.linalg.norm(offset_m)) < settings.grasp_tolerance_m
        if near and float(np.linalg.norm(turn_rad)) < settings.grasp_tolerance_rad:
            self._enter("close")
        way_m = funnel(offset_m, settings.hover_height_m, settings.funnel_m)
        aligned = float(np.linalg.norm(turn_rad)) < 3 * settings.grasp_tolerance_rad
        if not aligned:  # wait above until the fingers fit
            way_m[2] = max(way_m[2], offset_m[2] + settings.hover_height_m)
        return Goal(way_m, turn_rad, False, float(np.linalg.norm(offset_m)) / settings.calm_m)

    def _grasp_turn(self, hand: Hand, scene: Scene) -> float:
        """Turn to the heading that strains the arm least, at the grasp and at the place."""
        grasps = [self._strain(one) for one in scene.grasp_headings_rad] or [0.0]

        def cost(grasp: float) -> float:
            ends = [nearest_turn(0.0, grasp + turn) for turn in scene.turns_rad] or [grasp]
            return min(max(abs(grasp), abs(end)) + 0.1 * abs(end - grasp) for end in ends)

        return min(grasps, key=cost) - self._strain(hand.heading_rad)

    def _place_turn(self, hand: Hand, scene: Scene) -> float:
        """The turn that what is held still has to make: short, and not to where the arm is
        strained.
        """
        now = self._strain(hand.heading_rad)
        ends = [nearest_turn(0.0, now + turn) for turn in scene.turns_rad] or [now]
        return (
            min(
                ends,
                key=lambda end: (
                    abs(end - now) + 0.5 * abs(end) + 10.0 * (abs(end) > MOST_STRAIN_RAD)
                ),
            )
            - now
        )

    def _strain(self, heading_rad: float) -> float:
        """A heading as its deviation from the one that the arm likes best; turns go through zero,
        never past the back.
        """
        assert self._preferred_rad is not None
        return nearest_turn(self._preferred_rad, heading_rad)

    def _close(self, hand: Hand, scene: Scene) -> Goal:
        return Goal(np.zeros(3), hand.turn_down(), True, 0.0)

    def _carry(self, hand: Hand, scene: Scene) -> Goal:
        settings, sideways_m = self.options, float(np.linalg.norm(scene.gap_m[:2]))
        over = min(1.0, sideways_m / settings.funnel_m) ** 2
        left_rad = self._place_turn(hand, scene)
        turned = abs(left_rad) < 3 * settings.place_tolerance_rad
        height_m = settings.clearance_m * (over if turned else 1.0)
        missing_m = scene.gap_m[2] + height_m  # still to rise (or, negative, to sink)
        share = float(np.clip(1 - missing_m / settings.rise_margin_m, 0.0, 1.0))
        turn_rad = hand.turn_down()
        turn_rad[2] += left_rad * share
        placed = (
            sideways_m < settings.place_tolerance_m and abs(left_rad) < settings.place_tolerance_rad
        )
        if placed and abs(missing_m) < 2 * settings.place_tolerance_m:
            self._enter("release")
        offset_m = np.array([*(scene.gap_m[:2] * share), missing_m])
        return Goal(offset_m, turn_rad, True, sideways_m / settings.calm_m)

    def _release(self, hand: Hand, scene: Scene) -> Goal:
        settings = self.options
        if self._ticks > settings.open_ticks + settings.give_up_ticks:
            self._enter("reach")
        if self._ticks > settings.open_ticks:
            rise_m = settings.retreat_m
        else:
            rise_m = 0.0
        return Goal(np.array([0.0, 0.0, rise_m]), hand.turn_down(), False, 0.0)


class CanDemonstrator(PickPlaceDemonstrator):
    """A can stands the same from all sides: the hand keeps the heading it likes."""

    options = PickPlaceOptions(
        clearance_m=0.12,
        rise_margin_m=0.06,
        place_tolerance_m=0.03,
        hover_height_m=0.1,
        grasp_tolerance_m=0.012,
    )
    GRASP_M = np.array([0.0, 0.0, 0.015])
    """Where the fingers hold, from the can's centre: high enough for a hand that stands on the
    bin's edge.
    """
    PLACE_M = np.array([-0.045, -0.05, 0.1])
    """From the middle of the can's quarter, on the floor, to where its centre is let go: as near to
    the arm as is safe.
    """

    def _scene(self, env: RobosuiteEnv) -> Scene:
        simulation = env.simulation
        number = simulation.object_id
        can_m, _ = pose(env, simulation.obj_body_id[simulation.objects[number].name])
        return Scene(
            can_m + self.GRASP_M,
            (),
            simulation.target_bin_placements[number] + self.PLACE_M - can_m,
        )


class SquareDemonstrator(PickPlaceDemonstrator):
    """The nut is held by its handle and turned so that it fits the peg; the handle never points
    away from the arm.
    """

    options = PickPlaceOptions(clearance_m=0.135, place_tolerance_m=0.004, place_tolerance_rad=0.05)
    HANDLE_M = 0.054
    """From the hole's centre to the handle's middle, along the nut's first axis."""
    INSERT_M = 0.03
    """Height of the nut above the table at which it is let go: well below the peg's tip."""

    def _scene(self, env: RobosuiteEnv) -> Scene:
        simulation = env.simulation
        nut_m, nut_rad = pose(env, simulation.obj_body_id[simulation.nuts[0].name])
        peg_m, peg_rad = pose(env, simulation.peg1_body_id)
        grasp_m = nut_m + self.HANDLE_M * np.array([np.cos(nut_rad), np.sin(nut_rad), 0.0])
        across = [nut_rad + QUARTER, nut_rad - QUARTER]
        place_m = np.array([*peg_m[:2], simulation.table_offset[2] + self.INSERT_M])
        turns = [nearest_turn(nut_rad, peg_rad + HALF + side) for side in (-QUARTER, 0.0, QUARTER)]
        return Scene(grasp_m, across, place_m - nut_m, turns)


class StackDemonstrator(PickPlaceDemonstrator):
    """The small cube is put on the large one as it is held; where the large one is near, the
    fingers open beside it.
    """

    options = PickPlaceOptions(clearance_m=0.06, rise_margin_m=0.03)
    CROWDED_M = 0.12
    """Cubes nearer than this leave no room for a finger between them."""
    STACKED_M = 0.047
    """Height of the small cube's centre above the large one's when it is let go: 2 mm above
    touching.
    """

    def _scene(self, env: RobosuiteEnv) -> Scene:
        simulation = env.simulation
        small_m, small_rad = pose(env, simulation.cubeA_body_id)
        large_m, _ = pose(env, simulation.cubeB_body_id)
        apart_m = large_m - small_m
        faces = [small_rad + quarter * QUARTER for quarter in range(4)]
        if float(np.linalg.norm(apart_m[:2])) < self.CROWDED_M:
            towards_rad = float(np.arctan2(apart_m[1], apart_m[0]))
            faces.sort(key=lambda face: abs(np.cos(face - towards_rad)))
            faces = faces[
                :2
            ]  # both ways round of the axis that is more nearly square to the way to the large cube
        return Scene(small_m, faces, large_m + np.array([0.0, 0.0, self.STACKED_M]) - small_m)


def pose(env: RobosuiteEnv, body: int) -> tuple[FloatArray, float]:
    """Position (3,) [m] of a body and the heading [rad] of its first axis."""
    data: Any = env.simulation.sim.data
    return np.array(data.body_xpos[body]), heading(data.body_xmat[body].reshape(3, 3))
