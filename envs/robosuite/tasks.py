"""robosuite's tasks: what each shows of its objects, and how long its episodes are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .env import HAND_DOWN, UPRIGHT, RobosuiteEnv


def _list_pose(name: str) -> dict[str, int]:
    """The two observations of a pose: position and quaternion."""
    return {f"{name}_pos": 3, f"{name}_quat": 4}


class LiftEnv(RobosuiteEnv):
    """Pick up a cube of 4 to 4.4 cm and raise it 4 cm above the table; `object` is its position,
    orientation and offset.
    """

    task = "Lift"
    instruction = "lift the cube"
    objects: ClassVar[Mapping[str, int]] = {**_list_pose("cube"), "gripper_to_cube_pos": 3}
    references: ClassVar[Mapping[str, tuple[float, ...]]] = {"cube_quat": UPRIGHT}
    default_steps = 100


class CanEnv(RobosuiteEnv):
    """Carry a can from one bin into its quarter of the other; `object` is its pose, in the world
    and seen from the hand.
    """

    task = "PickPlaceCan"
    objects: ClassVar[Mapping[str, int]] = {
        **_list_pose("Can"),
        **_list_pose("Can_to_robot0_eef"),
    }
    references: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "Can_quat": UPRIGHT,
        "Can_to_robot0_eef_quat": HAND_DOWN,
    }
    default_steps = 250
    instruction = "put the can into its bin"


class SquareEnv(RobosuiteEnv):
    """Put a square nut over the square peg; `object` is the nut's pose, in the world and seen from
    the hand.
    """

    task = "NutAssemblySquare"
    objects: ClassVar[Mapping[str, int]] = {
        **_list_pose("SquareNut"),
        **_list_pose("SquareNut_to_robot0_eef"),
    }
    references: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "SquareNut_quat": UPRIGHT,
        "SquareNut_to_robot0_eef_quat": HAND_DOWN,
    }
    default_steps = 300
    instruction = "put the square nut over the square peg"


class StackEnv(RobosuiteEnv):
    """Put the small red cube on the larger green one; `object` holds both poses and what lies
    between them and the hand.
    """

    task = "Stack"
    objects: ClassVar[Mapping[str, int]] = {
        **_list_pose("cubeA"),
        **_list_pose("cubeB"),
        "cubeA_to_cubeB": 3,
        "gripper_to_cubeA": 3,
        "gripper_to_cubeB": 3,
    }
    references: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "cubeA_quat": UPRIGHT,
        "cubeB_quat": UPRIGHT,
    }
    default_steps = 200
    instruction = "stack the red cube on the green cube"


class DoorEnv(RobosuiteEnv):
    """Turn the handle of a latched door and pull the door open."""

    task = "Door"
    objects: ClassVar[Mapping[str, int]] = {
        "door_pos": 3,
        "handle_pos": 3,
        "hinge_qpos": 1,
        "handle_qpos": 1,
        "door_to_eef_pos": 3,
        "handle_to_eef_pos": 3,
    }
    default_steps = 250
    instruction = "open the door"


class ToolHangEnv(RobosuiteEnv):
    """Put a frame together and hang a tool on it."""

    task = "ToolHang"
    objects: ClassVar[Mapping[str, int]] = {
        **_list_pose("base"),
        **_list_pose("frame"),
        **_list_pose("tool"),
        **_list_pose("frame_to_robot0_eef"),
        **_list_pose("tool_to_robot0_eef"),
        "frame_is_assembled": 1,
        "tool_on_frame": 1,
    }
    default_steps = 700
    instruction = "assemble the frame and hang the tool on it"


class TwoArmLiftEnv(RobosuiteEnv):
    """Lift a pot by both handles, with two arms, and keep it level."""

    task = "TwoArmLift"
    objects: ClassVar[Mapping[str, int]] = {
        **_list_pose("pot"),
        "handle0_xpos": 3,
        "handle1_xpos": 3,
        "gripper0_to_handle0": 3,
        "gripper1_to_handle1": 3,
    }
    references: ClassVar[Mapping[str, tuple[float, ...]]] = {"pot_quat": UPRIGHT}
    arms = 2
    default_steps = 300
    instruction = "lift the pot with both arms and keep it level"
