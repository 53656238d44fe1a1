"""The driver of Franka arms: its options, limits and messages, without an arm."""

import importlib.util

import numpy as np
import pytest
from hotstart.configs.compose import compose_config
from hotstart.real_robot.driver import DriverError
from hotstart.real_robot.drivers import registry
from hotstart.real_robot.drivers.franka import GUIDING, MARGIN_RAD, MOST, RANGES, Franka
from hotstart.real_robot.drivers.franka_link import Reading, make_rotvec
from hotstart.real_robot.drivers.target_speeds import SpeedEstimate
from hotstart.spec import ConfigError
from scipy.spatial.transform import Rotation


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"servo_hz": 1000.0}, "servo_hz is 1000.0; 50 to 500 are possible"),
        ({"velocity": 2.5}, "velocity is 2.5; 0.001 to 2 are possible"),
        ({"stiffness": 0.0}, "stiffness is 0.0; 0.1 to 2 are possible"),
        ({"watchdog_s": 0.005}, "watchdog_s is 0.005; 0.008 to 1 are possible"),
        ({"arm": "fr2"}, "fr2"),
        ({"hand_force": float("nan")}, "hand_force is nan; 1 to 70 are possible"),
    ],
)
def test_options_out_of_range_are_refused(options, expected):
    with pytest.raises(ConfigError, match=expected):
        Franka("127.0.0.1", **options)


def test_its_limits_are_the_ranges_of_the_arm_without_their_ends():
    limits = Franka("127.0.0.1", arm="panda", velocity=0.5, hand_speed=0.04).limits
    assert limits.lower[:7] == pytest.approx(np.array(RANGES["panda"][0]) + MARGIN_RAD)
    assert limits.upper[:7] == pytest.approx(np.array(RANGES["panda"][1]) - MARGIN_RAD)
    assert limits.velocity == pytest.approx([0.5] * 7 + [0.5])
    assert (limits.lower[7], limits.upper[7]) == (0.0, 1.0)
    bare = Franka("127.0.0.1", hand=False)
    assert bare.limits.lower.shape == (7,) == bare.obs_spec.keys["joints"].shape
    assert all(limits.velocity[:7] <= MOST["velocity"])


def test_it_is_a_choice_of_the_configuration():
    config = compose_config("deploy", ["runs/x", "robot=franka", "robot.host=172.16.0.2"])
    options = dict(config["robot"])
    del options["_target_"]
    driver = registry.make("franka", **options)
    assert driver.watchdog_s == 0.2
    assert [dim.name for dim in driver.action_spec.dims] == [
        *(f"joint{number}" for number in range(1, 8)),
        "gripper",
    ]


def test_without_its_client_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "hotstart\[franka\]"'):
        Franka("127.0.0.1").connect()


def test_without_a_connection_it_says_so_and_may_be_stopped():
    driver = Franka("127.0.0.1")
    driver.stop()
    driver.close()
    with pytest.raises(DriverError, match="`connect` first"):
        driver.read()


def test_speeds_of_targets_are_those_between_them_within_the_limits():
    speeds = SpeedEstimate(np.array([1.0, 1.0]), 0.001)
    assert speeds.update(np.array([0.0, 0.0]), 5.0).tolist() == [0.0, 0.0]
    assert speeds.update(np.array([0.001, 0.4]), 5.004) == pytest.approx([0.25, 1.0])
    assert speeds.update(np.array([0.2, 0.8]), 5.0042) == pytest.approx([0.25, 1.0])
    speeds.reset()
    assert speeds.update(np.array([0.5, 0.5]), 5.008).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("rotvec", [[0.0, 0.0, 0.0], [3.1, 0.2, -0.1], [0.3, -0.4, 0.5]])
def test_rotation_vectors_are_those_of_quaternions(rotvec):
    quaternion = Rotation.from_rotvec(rotvec).as_quat()
    assert make_rotvec(quaternion) == pytest.approx(rotvec, abs=1e-9)


def test_states_say_what_keeps_the_arm_from_moving():
    zeros = [0.0] * 7
    reading = Reading(5.0, zeros, zeros, zeros[:6], 0.25, zeros, 0.9, GUIDING, "", "told nothing")
    state = Franka("127.0.0.1")._make_state(reading)
    assert state.fault == "in guiding mode: let go of the buttons at its wrist; told nothing"
    assert state.positions[7] == 0.25
    assert state.observation["joints"].shape == (8,)
    assert state.notes["success_rate"] == 0.9
