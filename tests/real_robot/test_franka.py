"""The driver of Franka arms: options, limits and messages; and at the wire, against `franky-sim`.

At the wire it needs the client (`pip install "hotstart[franka]"`) here, and `franky-sim` in an
environment that HOTSTART_FRANKY_SIM names. That arm moves slower than a real one on a busy machine.
"""

import contextlib
import importlib.util
import os
import signal
import time

import numpy as np
import pytest
from hotstart.arms.franka_ranges import MARGIN_RAD, RANGES
from hotstart.configs.compose import compose_config
from hotstart.real_robot.driver import DriverError
from hotstart.real_robot.drivers import registry
from hotstart.real_robot.drivers.franka import GUIDING, MOST, Franka
from hotstart.real_robot.drivers.franka_link import Pace, Reading, make_rotvec
from hotstart.real_robot.drivers.target_speeds import SpeedEstimate
from hotstart.real_robot.sim.faults import Link
from hotstart.real_robot.sim.franka import VARIABLE, find_python
from hotstart.real_robot.sim.rehearsal import Rehearsal, RehearsalOptions
from hotstart.real_robot.sim.stage import StageClient
from hotstart.spec import ConfigError, HotstartError
from scipy.spatial.transform import Rotation

ADDRESS = f"127.21.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
"""Of this process alone: the client knows one set of ports."""
INSTALLED = importlib.util.find_spec("franky") is not None and VARIABLE in os.environ
at_the_wire = pytest.mark.skipif(
    not INSTALLED, reason=f"needs franky here, and {VARIABLE}: an environment with franky-sim"
)


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


def test_the_pace_of_an_arm_is_that_of_its_time_and_a_pause_is_no_pace():
    pace = Pace()
    for turn in range(40):
        pace.note(0.5 * turn / 100, turn / 100)
    assert pace.share == pytest.approx(0.5)
    pace.note(0.21, 9.0)  # nobody has read for long
    assert pace.share == pytest.approx(0.5)
    pace.note(0.36, 9.15)
    assert pace.share == pytest.approx(1.0)


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


@pytest.mark.parametrize("named", ["", "no/such/folder"])
def test_a_missing_environment_is_named_and_how_to_make_it(monkeypatch, named):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="pip install franky-sim"):
        find_python(named)


def test_a_connection_with_faults_is_not_simulated():
    options = RehearsalOptions("franka", link=Link(delay_s=0.01))
    with pytest.raises(ConfigError, match="no delay_ms"), Rehearsal(options):
        pass


@pytest.fixture(scope="module")
def rehearsal():
    with Rehearsal(RehearsalOptions("franka", ADDRESS, cameras=False)) as rehearsal:
        yield rehearsal


@pytest.fixture
def server(rehearsal):
    return rehearsal.world.server


@contextlib.contextmanager
def connected(**options):
    driver = Franka(ADDRESS, **options)
    driver.connect()
    try:
        yield driver
    finally:
        driver.close()


def swing(driver, speed, for_s=0.6):
    """Command the first joint: it gains this speed [rad/s] in 0.3 s, and keeps it."""
    start = driver.read().positions
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < for_s:
        target = start.copy()
        target[0] += speed * (min(passed, 0.3) ** 2 / 0.6 + max(passed - 0.3, 0.0))
        driver.command(target)
        time.sleep(1 / driver.servo_hz)


def wait_for_rest(driver, within_s):
    """Seconds until no joint moves."""
    begun = time.monotonic()
    while np.abs(driver.read().velocities).max() > 0.05:
        assert time.monotonic() - begun < within_s
        time.sleep(0.002)
    return time.monotonic() - begun


@at_the_wire
def test_the_arm_follows_a_sine_and_the_hand_closes(server):
    with connected() as driver:
        start = driver.read().positions
        begun = time.monotonic()
        errors = []
        while (passed := time.monotonic() - begun) < 1.5:
            target = start.copy()
            target[0] += 0.1 * (1 - np.cos(2 * passed))
            target[7] = 0.0
            driver.command(target)
            state = driver.read()
            errors.append(abs(state.positions[0] - target[0]))
            assert state.fault == ""
            time.sleep(1 / driver.servo_hz)
        assert np.median(errors) < 0.03
        assert state.positions[7] < start[7] - 0.2
        assert state.observation["joints"] == pytest.approx(state.positions)
        driver.stop()
        wait_for_rest(driver, 0.5)
        driver.stop()


@at_the_wire
def test_a_silent_driver_is_stopped_by_its_link_until_somebody_recovers_it(server):
    with connected() as driver:
        swing(driver, 0.8)
        assert driver.read().velocities[0] > 0.4
        wait_for_rest(driver, 1.0)
        time.sleep(0.2)
        assert driver.read().fault == "nothing was commanded for 0.2 s"
        there = driver.read().positions
        driver.command(there - 0.2)  # not before it is recovered
        time.sleep(0.2)
        assert driver.read().positions == pytest.approx(there, abs=0.02)
        driver.recover()
        assert driver.read().fault == ""
        swing(driver, -0.8)
        assert driver.read().velocities[0] < -0.4


@at_the_wire
def test_a_reflex_is_told_and_stays_until_somebody_recovers_it(server):
    with connected() as driver:
        swing(driver, 0.8)
        server.begin_reflex()
        swing(driver, 0.8, 0.3)
        state = driver.read()
        assert state.fault.startswith("in a reflex; cartesian_reflex; ")
        assert np.abs(state.velocities).max() < 0.05
        driver.stop()
        driver.recover()
        swing(driver, -0.8)
        state = driver.read()
        assert (state.fault, state.velocities[0] < -0.4) == ("", True)


@at_the_wire
@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_a_client_that_dies_or_hangs_lets_the_arm_rest(server, fate):
    with connected() as driver:
        swing(driver, 0.8)
        assert driver._link is not None
        os.kill(driver._link._process.pid, fate)
        with pytest.raises(DriverError, match=f"the client of {ADDRESS}:1337 has"):
            driver.read()
        driver.stop()
        driver.recover()
        wait_for_rest(driver, 0.5)
        swing(driver, -0.8)
        assert driver.read().velocities[0] < -0.4


@at_the_wire
def test_a_client_that_has_hung_finds_its_motion_ended(server):
    with connected() as driver:
        swing(driver, 0.8)
        assert driver._link is not None
        client = driver._link._process.pid
        os.kill(client, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(client, signal.SIGCONT)
        time.sleep(0.1)
        state = driver.read()
        assert "communication_constraints_violation" in state.fault
        assert np.abs(state.velocities).max() < 0.05
        driver.recover()


@at_the_wire
def test_the_stage_puts_arm_and_puck_where_an_episode_begins_and_sees_the_arm_push(rehearsal):
    stage = StageClient(int(rehearsal.stage_address.rpartition(":")[2]))
    with stage, connected() as driver:
        begun = stage.ask("reset", seed=3)
        time.sleep(0.1)
        start = driver.read().positions
        assert start == pytest.approx(begun["start"], abs=2e-3)
        assert stage.ask("look")["object"] == pytest.approx(begun["object"], abs=2e-3)
        aim = [*begun["object"][:2], *begun["tool"][2:]]
        way = rehearsal.world.scene.solve_joints(aim, start[:7]) - start[:7]
        for step in np.linspace(0, np.pi, 500):
            driver.command(start + np.append(way, 0.0) * (1 - np.cos(step)) / 2)
            time.sleep(0.004)
        with pytest.raises(HotstartError, match="stop it before"):
            stage.ask("reset", seed=4)
        driver.stop()
        assert stage.ask("look")["object"][0] > begun["object"][0] + 0.03
        again = stage.ask("reset", seed=3)
        assert again["object"] == pytest.approx(begun["object"], abs=1e-3)
        time.sleep(0.1)
        assert driver.read().positions == pytest.approx(begun["start"], abs=2e-3)


@at_the_wire
def test_an_address_without_an_arm_is_refused():
    with pytest.raises(DriverError, match=r"NetworkException: .*enable FCI"):
        Franka("127.0.0.250").connect()
