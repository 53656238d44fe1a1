"""A UR5e with a stick that pushes a disc over a table into a marked region.

The frame is the base frame of UR's controller, the tool that of its flange, moved to the tip of
the stick: at joint angles of zero the arm lies along -x.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..spec import FloatArray, Limits
from .models import (
    ARM_BIT,
    TABLE_BIT,
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
from .scene import VISIBLE_GROUP, ArmDescription, Scene

TURN = 2 * np.pi
MODEL_JOINTS = (
    "shoulder_pan_joint",
    "shoulder_lift_joint",
    "elbow_joint",
    "wrist_1_joint",
    "wrist_2_joint",
    "wrist_3_joint",
)
LINKS = (
    "fixed_base_link",
    "shoulder_link",
    "upper_arm_link",
    "forearm_link",
    "wrist_1_link",
    "wrist_2_link",
    "wrist_3_link",
)
DOWN = np.array([np.pi, 0.0, 0.0])
"""The rotation vector of a tool that points down."""
UR5E = ArmDescription(
    joints=("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3"),
    model_joints=MODEL_JOINTS,
    gripper_joint=None,
    limits=Limits(
        lower=np.array([-TURN, -TURN, -np.pi, -TURN, -TURN, -TURN]),
        upper=np.array([TURN, TURN, np.pi, TURN, TURN, TURN]),
        velocity=np.full(6, 2.0),
        acceleration=np.full(6, 15.0),
        jerk=np.full(6, 300.0),
    ),
    tool_reference=DOWN,
    turns=True,
    brakes=True,
)
"""The maker allows 3.14 rad/s; two thirds of it are kept for a policy."""
ARMATURE = np.array([0.6, 0.6, 0.4, 0.1, 0.1, 0.1])
"""Inertia of the rotors behind their gears [kg m^2]."""
INERTIA = np.array([2.5, 2.5, 1.2, 0.15, 0.15, 0.11])
"""Of what each joint moves at home, rotor included [kg m^2]: what the gains are made for."""
SERVO_RAD_S = 120.0
"""How fast a joint follows its target: the natural frequency of its motor, critically damped."""
TORQUES = np.array([150.0, 150.0, 150.0, 28.0, 28.0, 28.0])
MESH_GRID_M = 0.006
STICK_M, STICK_RADIUS_M = 0.14, 0.01
"""The tip is so far from the flange."""
STEEL = [0.35, 0.35, 0.4, 1.0]

TIP_HEIGHT_M = 0.02
DISC_RADIUS_M, DISC_HEIGHT_M = 0.04, 0.03
DISC_KG = 0.15
GOAL_RADIUS_M = 0.07
FIELD = np.array([[-0.60, -0.30], [-0.36, 0.06]])
"""Corners of the part of the table where discs and goals are put, ((x, y), (x, y))."""
START = np.array([-0.48, -0.12])
"""About where the tip begins (x, y)."""
FAR_M = 0.3
APART_M = 0.14
"""How far disc and goal, and disc and tip, are from each other at least."""
HOME = np.array([-0.1, -1.3, 2.1, -2.4, -1.57, -1.6])
"""Near to where the search for the first joint angles begins."""


class PushScene(Scene):
    """Push the disc with the stick until it lies inside the green region."""

    name = "ur5e_push"
    instruction = "push the disc into the green region"
    rate_hz = 10.0
    cameras = ("front", "wrist")

    def __init__(self) -> None:
        super().__init__(UR5E)

    @classmethod
    def build(cls) -> Any:
        """The model (mjModel); raises ConfigError where robosuite is missing."""
        spec = read_model(
            "robosuite", "models/assets/robots/ur5e/robot.xml", "pip install robosuite"
        )
        mujoco = load_mujoco()
        simplify_meshes(spec, "", MESH_GRID_M)
        delete_actuators(spec)
        # The model's base is turned by half a turn to that of UR's controller.
        spec.body("base").quat = [0.0, 0.0, 0.0, 1.0]
        set_contacts(spec, list(LINKS))
        for link in LINKS:
            spec.body(link).gravcomp = 1.0
        for joint, inertia in zip(MODEL_JOINTS, ARMATURE, strict=True):
            spec.joint(joint).armature = inertia
        add_motors(spec, MODEL_JOINTS, INERTIA * SERVO_RAD_S**2, 2 * INERTIA * SERVO_RAD_S, TORQUES)
        _add_stick(spec.body("right_hand"))
        add_table(spec, (-0.35, -0.1), 2.4)
        cylinder = mujoco.mjtGeom.mjGEOM_CYLINDER
        size = [DISC_RADIUS_M, DISC_HEIGHT_M / 2, 0.0]
        add_object(spec, cylinder, size, DISC_KG, [0.85, 0.25, 0.15, 1.0])
        add_goal(spec, cylinder, [GOAL_RADIUS_M, 0.0005, 0.0], [0.25, 0.7, 0.35, 1.0])
        middle = np.array([-0.46, -0.12, 0.0])
        add_camera(spec.worldbody, "front", np.array([-0.96, -0.12, 0.65]), middle, 36.0)
        return spec.compile()

    def _place(self, rng: np.random.Generator) -> None:
        tip = START + rng.uniform(-0.04, 0.04, 2)
        disc, goal = self._draw(rng, tip)
        pose = np.array([*tip, TIP_HEIGHT_M, *DOWN])
        self.put_arm(self.solve_joints(pose, HOME))
        self.put_object([*disc, DISC_HEIGHT_M / 2], rng.uniform(-np.pi, np.pi))
        self.put_goal([*goal, 0.0])

    def _draw(self, rng: np.random.Generator, tip: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Where disc and goal are (2,), not too near to one another and to the tip."""
        while True:
            disc, goal = rng.uniform(FIELD[0], FIELD[1], (2, 2))
            free = np.linalg.norm(disc - tip) > APART_M / 2
            if free and np.linalg.norm(disc - goal) > APART_M:
                return disc, goal

    def judge(self) -> tuple[float, bool]:
        """Score: 1 where all of the disc is in the region, 0 where it is 0.3 m or more away."""
        distance = float(np.linalg.norm((self.object_position - self.goal)[:2]))
        outside = distance - (GOAL_RADIUS_M - DISC_RADIUS_M)
        return float(np.clip(1.0 - outside / FAR_M, 0.0, 1.0)), outside <= 0


def _add_stick(hand: Any) -> None:
    """Put the stick, its tip and a camera on the flange."""
    mujoco = load_mujoco()
    hand.gravcomp = 1.0
    hand.add_geom(
        name="stick",
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=[0.0, 0.0, 0.0, 0.0, 0.0, STICK_M - STICK_RADIUS_M],
        size=[STICK_RADIUS_M, 0.0, 0.0],
        mass=0.1,
        rgba=STEEL,
        contype=ARM_BIT | TABLE_BIT,
        conaffinity=TABLE_BIT,
        friction=[0.3, 0.005, 0.0001],
        group=VISIBLE_GROUP,
    )
    hand.add_site(name="tool", pos=[0.0, 0.0, STICK_M], group=4)
    eye = np.array([0.09, 0.0, 0.02])
    add_camera(hand, "wrist", eye, np.array([0.0, 0.0, STICK_M]), 90.0)
