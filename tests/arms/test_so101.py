"""The SO-101's scene: kinematics of five joints, a gripper, motors that sag and fall."""

import numpy as np
import pytest
from hotstart.arms import make_scene
from hotstart.arms.kinematics import ReachError
from hotstart.arms.models import join_corners, read_obj, read_stl


@pytest.fixture(scope="module")
def scene():
    return make_scene("so101_lift")


def test_five_joints_reach_positions_and_come_near_to_rotations(scene):
    scene.reset(0)
    low = scene.tool
    low[:3] = [0.2, 0.05, 0.03]
    found = scene.solve_tool(scene.solve_joints(low, scene.positions))
    assert found == pytest.approx(low, abs=6e-3)
    high = np.array([0.2, 0.05, 0.2, *low[3:]])
    found = scene.solve_tool(scene.solve_joints(high, scene.positions))
    assert found[:3] == pytest.approx(high[:3], abs=2e-3)
    assert np.linalg.norm(found[3:] - high[3:]) > 0.1
    with pytest.raises(ReachError):
        scene.solve_joints(np.array([0.6, 0, 0, *low[3:]]), scene.positions)


def test_it_sags_and_a_command_against_its_weight_mends_that(scene):
    scene.reset(0)
    start = scene.positions
    scene.step(1.0)
    sagged = np.abs(scene.positions - start).max()
    for _ in range(3):
        scene.command(scene.hold_up(start))
        scene.step(0.5)
    assert 0.01 < sagged < 0.06
    assert scene.positions == pytest.approx(start, abs=0.006)


def test_the_gripper_opens_and_closes_and_an_opening_is_a_share_of_its_range(scene):
    scene.reset(0)
    for opening in (1.0, 0.0, 0.4):
        scene.command_gripper(opening)
        scene.step(0.8)
        assert scene.gripper == pytest.approx(opening, abs=0.01)
        assert scene.action[-1] == scene.gripper


def test_without_power_the_arm_falls(scene):
    scene.reset(0)
    height = scene.tool[2]
    scene.set_power(False)
    scene.step(1.0)
    assert scene.tool[2] < height - 0.04
    scene.set_power(True)
    fallen = scene.positions
    scene.step(0.2)
    assert scene.positions == pytest.approx(fallen, abs=0.1)


def test_a_mesh_on_a_grid_keeps_its_size_with_fewer_triangles(tmp_path):
    turns = np.linspace(0, 2 * np.pi, 201)
    ring = 0.02 * np.stack([np.cos(turns), np.sin(turns), 0 * turns], 1)
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    fan = np.zeros(200, record)
    fan["corners"] = np.stack([np.zeros((200, 3)), ring[:-1], ring[1:]], 1)
    file = tmp_path / "disc.stl"
    file.write_bytes(bytes(84) + fan.tobytes())
    corners, faces = join_corners(*read_stl(file), 0.004)
    assert len(faces) < 60
    assert np.linalg.norm(corners, axis=1).max() == pytest.approx(0.02, abs=0.001)


def test_an_obj_file_is_read_as_it_is(tmp_path):
    file = tmp_path / "triangle.obj"
    file.write_text("# made\nv 0 0 0\nv 1 0 0\nv 0 2.5 0\nvn 0 0 1\nf 1//1 2//1 3//1\n")
    corners, faces = read_obj(file)
    assert corners.tolist() == [[0, 0, 0], [1, 0, 0], [0, 2.5, 0]]
    assert faces.tolist() == [[0, 1, 2]]
