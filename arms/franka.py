"""A Franka FR3 whose open hand pushes a puck over the table into a marked region.

The frame is the base of the arm, the tool the middle between the fingertips, as the arm tells it.
The puck is wider than the hand opens, so that it lies in between the fingers while it is pushed.
The model is robosuite's Panda: an FR3 has the same links, and other ranges of its joints.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..spec import FloatArray, Limits
from .franka_ranges import JOINTS, MARGIN_RAD, RANGES
from .models import (
    add_camera,
    add_goal,
    add_motors,
    add_object,
    add_table,
    delete_actuators,
    read_model,
    set_contacts,
    simplify_meshes,
)
from .rendering import load_mujoco
from .scene import ArmDescription, Scene

ASSETS = "models/assets"
LINKS = tuple(f"link{number}" for number in range(8))
HAND_PARTS = (
    "right_gripper",
    "leftfinger",
    "rightfinger",
    "finger_joint1_tip",
    "finger_joint2_tip",
)
FINGER, OTHER_FINGER = "finger_joint1", "finger_joint2"
DOWN = np.array([np.pi, 0.0, 0.0])
"""The rotation vector of a tool that points down, its fingers beside one another along y."""
LOWER, UPPER = np.array(RANGES["fr3"])
FRANKA = ArmDescription(
    joints=JOINTS,
    model_joints=JOINTS,
    gripper_joint=FINGER,
    limits=Limits(
        lower=np.array([*(LOWER + MARGIN_RAD), 0.0]),
        upper=np.array([*(UPPER - MARGIN_RAD), 1.0]),
        velocity=np.array([*np.full(7, 1.0), 1.25]),
        acceleration=np.array([*np.full(7, 4.0), 20.0]),
        jerk=np.array([*np.full(7, 40.0), 400.0]),
    ),
    tool_reference=DOWN,
    turns=True,
    brakes=True,
)
"""The driver's limits where nobody sets others."""
ARMATURE = np.array([0.6, 0.6, 0.6, 0.6, 0.3, 0.3, 0.3])
"""Inertia of the rotors behind their gears [kg m^2]."""
INERTIA = np.array([3.0, 3.0, 2.0, 2.0, 0.6, 0.6, 0.4])
"""Of what each joint moves at the table, rotor included [kg m^2]: what the gains are made for."""
SERVO_RAD_S = 120.0
"""How fast a joint follows: the driver tells its springs the target's speed, so they hardly lag."""
TORQUES = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])
FINGER_GAIN, FINGER_DAMPING = 5000.0, 100.0
FINGER_N = 40.0
TOOL_M = 0.1039
"""From the model's hand to the tool, which is 0.2104 m from the last link."""
MESH_GRID_M, HAND_GRID_M = 0.003, 0.001

TIP_HEIGHT_M = 0.03
PUCK_RADIUS_M, PUCK_HEIGHT_M = 0.05, 0.05
PUCK_KG = 0.2
PUCK_RGBA = [0.85, 0.25, 0.15, 1.0]
GOAL_RADIUS_M = 0.10
START = np.array([0.38, 0.0])
"""About where the tool begins (x, y)."""
PUCKS = np.array([[0.50, -0.07], [0.55, 0.07]])
GOALS = np.array([[0.62, -0.10], [0.68, 0.10]])
"""Corners of the parts of the table where puck and goal are put, ((x, y), (x, y))."""
STEEPEST = 1.0
"""The goal lies no more than so far aside, per way ahead, of the puck."""
FAR_M = 0.2
HOME = np.array([0.0, 0.2, 0.0, -2.4, 0.0, 2.6, 0.785])
"""Where every search for joint angles begins: a pose of the tool has one answer then."""


class FrankaPushScene(Scene):
    """Push the puck with the open hand until it lies inside the green region."""

    name = "franka_push"
    instruction = "push the puck into the green region"
    rate_hz = 10.0
    cameras = ("front", "wrist")

    def __init__(self) -> None:
        super().__init__(FRANKA)

    @classmethod
    def build(cls) -> Any:
        """The model (mjModel); raises ConfigError where robosuite is missing."""
        mujoco = load_mujoco()
        spec = _read("robots/panda/robot.xml", MESH_GRID_M)
        wrist = spec.body("right_hand")
        hand = _read("grippers/panda_gripper.xml", HAND_GRID_M)
        wrist.add_frame().attach_body(hand.body("right_gripper"), "", "")
        set_contacts(spec, [*LINKS, *HAND_PARTS])
        for name in (*LINKS, "right_hand", *HAND_PARTS):
            spec.body(name).gravcomp = 1.0
        for joint, inertia in zip(JOINTS, ARMATURE, strict=True):
            spec.joint(joint).armature = inertia
        add_motors(spec, JOINTS, INERTIA * SERVO_RAD_S**2, 2 * INERTIA * SERVO_RAD_S, TORQUES)
        _add_finger_motor(spec)
        wrist.add_site(name="tool", pos=[0.0, 0.0, TOOL_M], group=4)
        add_camera(wrist, "wrist", np.array([0.08, 0.0, 0.0]), np.array([0.03, 0.0, TOOL_M]), 80.0)
        add_table(spec, (0.4, 0.0), 2.4)
        cylinder = mujoco.mjtGeom.mjGEOM_CYLINDER
        size = [PUCK_RADIUS_M, PUCK_HEIGHT_M / 2, 0.0]
        add_object(spec, cylinder, size, PUCK_KG, PUCK_RGBA)
        spec.geom("object").priority = 1  # its friction counts, whatever it touches
        add_goal(spec, cylinder, [GOAL_RADIUS_M, 0.0005, 0.0], [0.25, 0.7, 0.35, 1.0])
        middle = np.array([0.52, 0.0, 0.0])
        add_camera(spec.worldbody, "front", np.array([1.15, 0.0, 0.6]), middle, 36.0)
        return spec.compile()

    def put_arm(self, action: FloatArray) -> None:
        """The other finger too."""
        super().put_arm(action)
        self.data.joint(OTHER_FINGER).qpos[0] = -self.data.joint(FINGER).qpos[0]

    def _place(self, rng: np.random.Generator) -> None:
        tip = START + rng.uniform(-0.03, 0.03, 2)
        puck, goal = self._draw(rng)
        joints = self.solve_joints(np.array([*tip, TIP_HEIGHT_M, *DOWN]), HOME)
        self.put_arm(np.array([*joints, 1.0]))
        self.put_object([*puck, PUCK_HEIGHT_M / 2], rng.uniform(-np.pi, np.pi))
        self.put_goal([*goal, 0.0])

    def _draw(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Where puck and goal are (2,); the goal lies ahead of the puck."""
        while True:
            puck = rng.uniform(*PUCKS)
            goal = rng.uniform(*GOALS)
            ahead, aside = goal - puck
            if abs(aside) <= STEEPEST * ahead:
                return puck, goal

    def judge(self) -> tuple[float, bool]:
        """Score: 1 where all of the puck is in the region, 0 where it is 0.2 m or more away."""
        distance = float(np.linalg.norm((self.object_position - self.goal)[:2]))
        outside = distance - (GOAL_RADIUS_M - PUCK_RADIUS_M)
        return float(np.clip(1.0 - outside / FAR_M, 0.0, 1.0)), outside <= 0


def _read(path: str, grid_m: float) -> Any:
    """The MjSpec of a file of robosuite, without its motors, its sensors and its marks."""
    spec = read_model("robosuite", f"{ASSETS}/{path}", "pip install robosuite")
    simplify_meshes(spec, "", grid_m)
    delete_actuators(spec)
    for part in [*spec.sensors, *spec.sites]:
        part.delete()
    return spec


def _add_finger_motor(spec: Any) -> None:
    """One motor moves both fingers."""
    mujoco = load_mujoco()
    add_motors(
        spec,
        (FINGER,),
        np.array([FINGER_GAIN]),
        np.array([FINGER_DAMPING]),
        np.array([FINGER_N]),
    )
    both = spec.add_equality()
    both.type = mujoco.mjtEq.mjEQ_JOINT
    both.objtype = mujoco.mjtObj.mjOBJ_JOINT
    both.name1, both.name2 = OTHER_FINGER, FINGER
    both.data[:5] = [0.0, -1.0, 0.0, 0.0, 0.0]
