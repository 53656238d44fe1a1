"""The UR5e's scene: its kinematics against the maker's figures, its motors, its episodes."""

import numpy as np
import pytest
from hotstart.arms import make_scene
from hotstart.arms.kinematics import ReachError
from hotstart.arms.poses import align_rotvec
from hotstart.spec import ConfigError
from scipy.spatial.transform import Rotation

# The maker's Denavit-Hartenberg parameters: (distance along z, length along x, twist) [m, rad].
LINKS = (
    (0.1625, 0.0, np.pi / 2),
    (0.0, -0.425, 0.0),
    (0.0, -0.3922, 0.0),
    (0.1333, 0.0, np.pi / 2),
    (0.0997, 0.0, -np.pi / 2),
    (0.0996, 0.0, 0.0),
)
STICK_M = 0.14


@pytest.fixture(scope="module")
def scene():
    return make_scene("ur5e_push")


def flange(positions):
    """The flange's pose (4, 4) by the maker's parameters."""
    pose = np.eye(4)
    for angle, (along, length, twist) in zip(positions, LINKS, strict=True):
        link = np.eye(4)
        link[:3, :3] = Rotation.from_euler("ZX", [angle, twist]).as_matrix()
        link[:3, 3] = [length * np.cos(angle), length * np.sin(angle), along]
        pose = pose @ link
    return pose


def test_the_tool_is_where_the_makers_parameters_put_it(scene):
    rng = np.random.default_rng(0)
    for positions in rng.uniform(-3, 3, (20, 6)):
        pose = flange(positions)
        tool = scene.solve_tool(positions)
        assert tool[:3] == pytest.approx(pose[:3, 3] + STICK_M * pose[:3, 2], abs=0.004)
        turn = Rotation.from_rotvec(tool[3:]).as_matrix()
        assert turn == pytest.approx(pose[:3, :3], abs=0.002)


def test_a_rotation_vector_keeps_to_its_side():
    down = np.array([np.pi, 0.0, 0.0])
    for vector in np.random.default_rng(1).normal(size=(50, 3)):
        kept = align_rotvec(vector, down)
        assert kept @ down >= 0
        matrix = Rotation.from_rotvec(kept).as_matrix()
        assert matrix == pytest.approx(Rotation.from_rotvec(vector).as_matrix())


def test_joint_angles_of_a_pose_lead_to_it(scene):
    scene.reset(3)
    near = scene.positions
    rng = np.random.default_rng(2)
    for _ in range(10):
        asked = scene.tool + np.repeat([0.1, 0.3], 3) * rng.uniform(-1, 1, 6)
        found = scene.solve_tool(scene.solve_joints(asked, near))
        assert found == pytest.approx(asked, abs=2e-3)


@pytest.mark.parametrize("pose", [[1.5, 0, 0.3, np.pi, 0, 0], [np.nan] * 6])
def test_a_pose_out_of_reach_is_refused(scene, pose):
    with pytest.raises(ReachError):
        scene.solve_joints(np.array(pose), scene.positions)


def test_motors_follow_a_moving_target_closely_and_hold_against_gravity(scene):
    scene.reset(0)
    start = scene.positions
    way = np.array([0.4, -0.4, 0.4, 0.4, 0.4, 0.4])
    for tick in range(501):
        scene.command(start + way * (1 - np.cos(np.pi * tick / 500)) / 2)
        scene.step()
    lag = np.abs(scene.target - scene.positions).max()
    scene.step(0.3)
    assert lag < 0.02
    assert scene.positions == pytest.approx(start + way, abs=2e-4)


def test_brakes_hold_an_arm_without_power_whatever_is_commanded(scene):
    scene.reset(0)
    scene.set_power(False)
    held = scene.positions
    scene.command(held + 0.5)
    scene.step(0.5)
    assert scene.positions == pytest.approx(held, abs=1e-3)


def test_a_seed_fixes_an_episode_and_a_saved_state_goes_on_to_the_bit(scene):
    scene.reset(5)
    first = scene.visible_state
    scene.reset(6)
    assert not np.array_equal(first, scene.visible_state)
    scene.reset(5)
    assert np.array_equal(first, scene.visible_state)
    scene.command(scene.positions + 0.1)
    scene.step(0.1)
    saved = scene.save()
    scene.step(0.2)
    after = scene.save()
    scene.load(saved)
    scene.step(0.2)
    assert np.array_equal(after, scene.save())


def test_the_stick_pushes_the_disc_and_the_region_ends_the_task(scene):
    scene.reset(0)
    before = scene.object_position
    tip = before + np.array([0.06, 0.0, 0.005])
    turn = scene.tool[3:]
    scene.put_arm(scene.solve_joints(np.array([*tip, *turn]), scene.positions))
    scene.command(scene.solve_joints(np.array([*(tip - [0.06, 0, 0]), *turn]), scene.positions))
    scene.step(0.5)
    assert scene.object_position[0] < before[0] - 0.03
    assert not scene.judge()[1]
    scene.put_goal(scene.object_position)
    assert scene.judge() == (1.0, True)


def test_an_unknown_scene_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match="ur5e_push"):
        make_scene("ur5e_pusch")
