"""The Franka's scene: its kinematics against the maker's figures, its driver's action, its task."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hotstart.envs.demonstrators.demonstrate import demonstrate, make_demonstrator
from hotstart.envs.registry import make
from hotstart.real_robot.drivers.franka import Franka
from scipy.spatial.transform import Rotation

# The maker's Denavit-Hartenberg parameters after Craig: (length, twist before, distance) [m, rad].
LINKS = (
    (0.0, 0.0, 0.333),
    (0.0, -np.pi / 2, 0.0),
    (0.0, np.pi / 2, 0.316),
    (0.0825, np.pi / 2, 0.0),
    (-0.0825, -np.pi / 2, 0.384),
    (0.0, np.pi / 2, 0.0),
    (0.088, np.pi / 2, 0.0),
)
TO_TOOL_M = 0.107 + 0.1034


@pytest.fixture(scope="module")
def env():
    return make("franka_push")


def place_tool(positions):
    """The tool's pose (4, 4) by the maker's parameters; the hand is turned by -45 degrees."""
    pose = np.eye(4)
    for angle, (length, twist, distance) in zip(positions, LINKS, strict=True):
        link = np.eye(4)
        link[:3, :3] = Rotation.from_euler("XZ", [twist, angle]).as_matrix()
        link[:3, 3] = [length, -np.sin(twist) * distance, np.cos(twist) * distance]
        pose = pose @ link
    hand = np.eye(4)
    hand[:3, :3] = Rotation.from_euler("Z", -np.pi / 4).as_matrix()
    hand[2, 3] = TO_TOOL_M
    return pose @ hand


def test_the_tool_is_where_the_makers_parameters_put_it(env):
    rng = np.random.default_rng(0)
    limits = env.scene.limits
    for positions in rng.uniform(limits.lower[:7], limits.upper[:7], (10, 7)):
        pose = place_tool(positions)
        tool = env.scene.solve_tool(positions)
        assert tool[:3] == pytest.approx(pose[:3, 3], abs=1e-3)
        turn = Rotation.from_rotvec(tool[3:]).as_matrix()
        assert turn == pytest.approx(pose[:3, :3], abs=2e-3)


def test_its_action_and_its_limits_are_the_drivers(env):
    driver = Franka("127.0.0.1")
    assert env.action_spec == driver.action_spec
    assert env.obs_spec.keys["joints"].shape == driver.obs_spec.keys["joints"].shape
    for name in ("lower", "upper", "velocity", "acceleration", "jerk"):
        assert getattr(env.scene.limits, name) == pytest.approx(getattr(driver.limits, name))


def test_the_demonstrator_pushes_the_puck_into_the_region_from_five_starts(env):
    demonstrator = make_demonstrator("franka_push", 0.2)
    for seed in range(5):
        made = demonstrate(env, demonstrator, seed)
        assert made.success
        assert 8 < len(made.arrays["action"]) < 80


def test_the_hand_is_open_and_stays_so_and_gymnasium_accepts_it(env):
    seen, _ = env.reset(seed=1)
    assert seen["joints"][7] == pytest.approx(1.0, abs=0.01)
    held = env.hold_position()
    held[7] = 0.25
    for _ in range(10):
        seen, *_ = env.step(held)
    fingers = [env.scene.data.joint(f"finger_joint{number}").qpos[0] for number in (1, 2)]
    assert seen["joints"][7] == pytest.approx(0.25, abs=0.03)
    assert fingers[0] == pytest.approx(-fingers[1], abs=1e-3)
    check_env(env, skip_render_check=True)
