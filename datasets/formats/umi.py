"""UMI's replay buffers: poses of one or two hand-held grippers, their widths and their cameras.

Universal Manipulation Interface, 2402.10329. UMI stores no actions. Its own data set class joins
position, rotation vector and gripper width of a step into that step's action, arm after arm; so
does this. `actions=rotation_6d` makes six numbers of each rotation, `actions=relative` takes poses
relative to the hand, as UMI does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ...spec import ActionDim, ActionSpec, ObsKey, ObsSpec
from ..episodes import ACTION
from .replay_buffer import ReplayBuffer
from .replay_meaning import Meaning, Translate

UMI_FPS = 59.94
"""Frames per second of the camera, a GoPro, that everything is resampled to [Hz]."""
POSE = {"eef_pos": (3,), "eef_rot_axis_angle": (3,), "gripper_width": (1,)}
START = "demo_start_pose"
MOST_ARMS = 8


def is_umi(buffer: ReplayBuffer) -> bool:
    """Whether the arrays have UMI's names and shapes, and no actions of their own."""
    return ACTION not in buffer.arrays and count_arms(buffer) > 0


def count_arms(buffer: ReplayBuffer) -> int:
    """Arms that have position, rotation and gripper width, from `robot0` on without a gap."""
    for arm in range(MOST_ARMS):
        for name, shape in POSE.items():
            key = f"robot{arm}_{name}"
            if key not in buffer.arrays or buffer.shape(key) != shape:
                return arm
    return MOST_ARMS


def make_umi_meaning(buffer: ReplayBuffer, images: bool = True) -> Meaning:
    """Poses [m, rad], widths [m], the start's pose and the cameras as observations.

    Each rotation vector is given as a quaternion (xyzw) too, `robot0_eef_quat`. The pose at the end
    of the demonstration is left out: a policy cannot know it.
    """
    named: dict[str, str] = {}
    keys: dict[str, ObsKey] = {}
    translate: dict[str, Translate] = {}
    dims: list[ActionDim] = []
    joined: list[str] = []
    for arm in range(count_arms(buffer)):
        robot = f"robot{arm}"
        for name, shape in POSE.items():
            named[f"{robot}_{name}"] = f"{robot}_{name}"
            keys[f"{robot}_{name}"] = ObsKey(shape)
            joined.append(f"{robot}_{name}")
        named[f"{robot}_eef_quat"] = f"{robot}_eef_rot_axis_angle"
        keys[f"{robot}_eef_quat"] = ObsKey((4,))
        translate[f"{robot}_eef_quat"] = _make_quaternions
        start = f"{robot}_{START}"
        if start in buffer.arrays and len(buffer.shape(start)) == 1:
            named[start] = start
            keys[start] = ObsKey(buffer.shape(start))
        dims.extend(_name_dims(robot))
    for key in sorted(buffer.keys):
        if images and key.startswith("camera") and len(buffer.shape(key)) == 3:
            named[key] = key
            keys[key] = ObsKey(buffer.shape(key), "uint8", "image")
    left_out = sorted(set(buffer.keys) - set(named.values()))
    notes: tuple[str, ...] = ()
    if left_out:
        notes = (f"left out {', '.join(left_out)}",)
    return Meaning(
        named, translate, ActionSpec(tuple(dims)), ObsSpec(keys), notes, {ACTION: tuple(joined)}
    )


def _name_dims(robot: str) -> list[ActionDim]:
    """The seven numbers of one arm's action."""
    dims: list[ActionDim] = []
    for axis in "xyz":
        dims.append(ActionDim(f"{robot}_{axis}", "m"))
    for axis in "xyz":
        dims.append(ActionDim(f"{robot}_rotation_{axis}", "rad", "rotation"))
    dims.append(ActionDim(f"{robot}_gripper_width", "m"))
    return dims


def _make_quaternions(vectors: NDArray[np.generic]) -> NDArray[np.float64]:
    """Rotation vectors (n, 3) [rad] as quaternions (n, 4), xyzw with w not negative."""
    return Rotation.from_rotvec(vectors.astype(np.float64)).as_quat(canonical=True)
