"""robosuite's raw collections: what the installed simulator sees at recorded states."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hotstart.cli import main
from hotstart.datasets.store import Store
from hotstart.envs.robosuite.collections import find_joint, read_collection, read_scene
from hotstart.spec import DataError

DEMOS = Path(__file__).parents[3] / "shared" / "data" / "robosuite_demos"
LIFT = DEMOS / "panda_v1.0.1" / "lift" / "panda"
SCENE = """<mujoco><asset><mesh file="/etc/passwd"/></asset><worldbody>
<body name="robot0_base" pos="1 0 2"><joint name="a"/><body><joint name="b" type="slide"/></body>
</body><body name="cube"><freejoint name="cube_jnt0"/></body></worldbody></mujoco>"""


def open_file(path, mode="r") -> Any:
    """An HDF5 file; what lies in it may be anything."""
    return h5py.File(path, mode)


def test_a_scene_gives_names_and_places_and_opens_nothing():
    scene = read_scene(SCENE, "here")
    assert scene.joints == [("a", "hinge"), ("b", "slide"), ("cube_jnt0", "free")]
    assert scene.base_m.tolist() == [1, 0, 2]
    for text in ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + SCENE, SCENE[:-9], "<mujoco/>"):
        with pytest.raises(DataError, match="here: the scene"):
            read_scene(text, "here")
    with pytest.raises(DataError, match="for 3 or 4 numbers"):
        read_scene(SCENE.replace("1 0 2", "1 0 nan"), "here")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gripper0_finger_joint1", "gripper0_right_finger_joint1"),
        ("SquareNut0_jnt0", "SquareNut_joint0"),
        ("cube", "cube_joint0"),
        ("latch_joint", "Door_latch_joint"),
        ("right_j0", "robot0_right_j0"),
        ("head_pan", None),
    ],
)
def test_joints_are_found_by_their_newer_names(old, new):
    installed = [
        "robot0_right_j0",
        "gripper0_right_finger_joint1",
        "SquareNut_joint0",
        "cube_joint0",
        "Door_latch_joint",
    ]
    assert find_joint(old, installed) == new


def test_a_scene_elsewhere_is_not_opened(tmp_path):
    with open_file(tmp_path / "demo.hdf5", "w") as file:
        file.create_group("data").attrs["env"] = "Lift"
        demo = file.create_group("data/demo_1")
        demo.attrs["model_file"] = "../../etc/passwd"
        demo["states"] = np.zeros((2, 3))
        demo["actions"] = np.zeros((2, 7))
    with pytest.raises(DataError, match="as its scene; no such name"):
        read_collection(tmp_path)


def test_the_last_states_of_a_human_demonstration_lift_the_cube(tmp_path, capsys):
    if not LIFT.exists():
        pytest.skip(f"{LIFT} is not there")
    pytest.importorskip("robosuite")
    (tmp_path / "models").symlink_to(LIFT / "models")
    with open_file(LIFT / "demo.hdf5") as old, open_file(tmp_path / "demo.hdf5", "w") as new:
        new.create_group("data").attrs["env"] = "Lift"
        demo = new.create_group("data/demo_1")
        demo.attrs["model_file"] = old["data/demo_1"].attrs["model_file"]
        for key in ("states", "actions"):
            demo[key] = old[f"data/demo_1/{key}"][-3:]
    assert main(["data", "recompute", str(tmp_path), str(tmp_path / "out.zarr")]) == 0
    assert "3 steps, recorded states succeed; replayed actions succeed" in capsys.readouterr().out
    store = Store.open(tmp_path / "out.zarr")
    assert store.fps == 20
    assert set(store.obs_spec.keys) == {
        "eef_pos",
        "eef_quat",
        "eef_quat_site",
        "gripper_qpos",
        "object",
    }
    lifted = store.array("object")
    assert (lifted[:, 2] > 0.84).all()  # the table's top is at 0.8 m, the cube 2 cm in half
    offsets = store.array("eef_pos") - lifted[:, :3]
    np.testing.assert_allclose(np.abs(lifted[:, 7:]), np.abs(offsets), atol=0.1)
    assert store.array("success").all()
