"""A scripted demonstrator for robosuite's Door: take the handle from above, turn it down, pull the
door open along its arc.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...spec import FloatArray
from ..robosuite.env import RobosuiteEnv
from .hand import (
    DOWN,
    HALF,
    Drive,
    Goal,
    Grasp,
    GraspOptions,
    Hand,
    HandDemonstrator,
    funnel,
    nearest_turn,
)

GRASP = GraspOptions(tolerance_m=0.015, tolerance_rad=0.12, close_ticks=8, lost_m=0.06)
LEVER_M = np.array([0.115, -0.10, 0.0])
"""Where the lever is held, from the latch's axis, in the latch's own axes: near its tip."""
UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class DoorOptions:
    """Heights, angles and lengths of the demonstrator's steps."""

    hover_height_m: float = 0.09
    funnel_m: float = 0.012  # the far finger must clear the lever, and the near one the door
    turned_rad: float = 1.25  # a lever turned this far sets the door free
    springs_back_rad: float = 1.15  # one that has come back to here is turned down again
    free_rad: float = 0.12  # a door open this far stays free
    tilt_rad: float = 0.45  # from straight down, so that the palm stays clear of the door
    step_m: float = 0.08  # how far ahead on an arc the hand is sent
    pull_m: float = 0.08  # the same while pulling, where the latch's friction is to be overcome
    follow: float = 0.3  # share of the hand's error that is put right while pulling
    press_m: float = 0.03  # and how far down the lever while pulling
    calm_m: float = 0.3  # nearer to the lever than this the pushes grow weaker


@dataclass(frozen=True)
class Door:
    """What the demonstrator reads from the simulation."""

    grip_m: FloatArray  # (3,) where the lever is held
    normal_rad: float  # heading of the door's normal, along which the fingers open
    down: FloatArray  # (3,) unit vector in which the lever moves when it is pressed
    outward: FloatArray  # (3,) unit vector in which the lever moves when the door opens
    lever_rad: float  # how far the lever is turned
    hinge_rad: float  # how far the door is open

    @classmethod
    def of(cls, env: RobosuiteEnv) -> Door:
        """The present state of the door."""
        simulation = env.simulation
        data, model = simulation.sim.data, simulation.sim.model
        latch = model.body_name2id(simulation.door.latch_body)
        rotation = data.body_xmat[latch].reshape(3, 3)
        arm_m = rotation @ LEVER_M
        axis = rotation[:, 1]
        pressed = np.cross(axis, arm_m - axis * (axis @ arm_m))
        grip_m = data.body_xpos[latch] + arm_m
        anchor_m = data._data.xanchor[model.joint_name2id(simulation.door.hinge_joint)]
        opening = np.cross(UP, grip_m - anchor_m)
        return cls(
            np.array(grip_m),
            float(np.arctan2(axis[1], axis[0])),
            -pressed / np.linalg.norm(pressed) * np.sign(pressed[2]),
            opening / np.linalg.norm(opening),
            abs(float(data.qpos[simulation.handle_qpos_addr])),
            float(data.qpos[simulation.hinge_qpos_addr]),
        )


class DoorDemonstrator(HandDemonstrator):
    """Reach, close, turn, pull; a lever that slips away is reached for again, one that springs back
    is turned again.
    """

    options = DoorOptions()
    drive = Drive(max_speed=0.95)  # latch and hinge resist

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        super().reset(rng)
        self._grasp, self._pulling = Grasp(GRASP), False

    def _goal(self, env: RobosuiteEnv, hand: Hand) -> Goal:
        door, settings = Door.of(env), self.options
        offset_m, turn_rad = door.grip_m - hand.position_m, hand.turn_toward(self._point_hand(door))
        turn_rad[2] += nearest_turn(hand.heading_rad, door.normal_rad, HALF)
        self._grasp.update(offset_m, turn_rad)
        reaching = self._grasp.phase == "reach"
        if reaching:
            calm = float(np.linalg.norm(offset_m)) / settings.calm_m
        else:
            calm = 0.0
        return Goal(self._way(door, offset_m), turn_rad, not reaching, calm)

    def _way(self, door: Door, offset_m: FloatArray) -> FloatArray:
        """Where the hand should go from where it is, (3,) [m]."""
        settings = self.options
        if self._grasp.phase == "reach":
            return funnel(offset_m, settings.hover_height_m, settings.funnel_m)
        if self._grasp.phase == "close":
            return np.zeros(3)
        if self._pulling:
            enough = settings.springs_back_rad
        else:
            enough = settings.turned_rad
        self._pulling = door.lever_rad > enough or door.hinge_rad > settings.free_rad
        if self._pulling:
            return (
                settings.pull_m * door.outward
                + settings.press_m * door.down
                + settings.follow * offset_m
            )
        return offset_m + settings.step_m * door.down

    def _point_hand(self, door: Door) -> FloatArray:
        """Where the hand should point: down, and a little towards the door."""
        inward = np.array([np.cos(door.normal_rad), np.sin(door.normal_rad), 0.0])
        return np.cos(self.options.tilt_rad) * DOWN + np.sin(self.options.tilt_rad) * inward
