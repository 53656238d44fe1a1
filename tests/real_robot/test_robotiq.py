"""A gripper of Robotiq, and a UR5e that has one, against simulated devices at the wire."""

import contextlib
import time

import numpy as np
import pytest
from hotstart.real_robot.driver import DriverError
from hotstart.real_robot.drivers.robotiq import PORT, RobotiqHand
from hotstart.real_robot.drivers.ur import UR
from hotstart.real_robot.sim.faults import Faults
from hotstart.real_robot.sim.rehearsal import Rehearsal, RehearsalOptions
from hotstart.real_robot.sim.robotiq import FULL_S, RobotiqServer
from hotstart.spec import ConfigError

ADDRESS, ARM_ADDRESS = "127.18.7.1", "127.18.7.2"


def wait_for(condition, within_s=10.0):
    """Until then; the time is the wall's, and a busy machine takes much of it."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within_s
        time.sleep(0.002)


@contextlib.contextmanager
def connected(activate=True):
    hand = RobotiqHand(ADDRESS, 1.0, 0.5, activate)
    try:
        yield hand
    finally:
        hand.close()


def test_the_fingers_follow_the_goal_and_take_their_time():
    with RobotiqServer(ADDRESS, active=True) as server:
        wait_for(lambda: server.fingers.get("STA") == 3)
        with connected(activate=False) as hand:
            assert hand.opening == pytest.approx(1.0)
            begun = time.monotonic()
            hand.goal = 0.2
            wait_for(lambda: hand.opening < 0.21)
            assert time.monotonic() - begun > 0.7 * FULL_S
            assert server.fingers.get("PRE") == 204
            assert not hand.fault


def test_a_stop_rests_in_the_air_and_goes_on_holding_an_object():
    with RobotiqServer(ADDRESS, active=True) as server:
        wait_for(lambda: server.fingers.get("STA") == 3)
        with connected() as hand:
            hand.goal = 0.0
            wait_for(lambda: hand.opening < 0.8)
            hand.hold()
            stopped = hand.goal
            wait_for(lambda: hand.opening == pytest.approx(stopped, abs=0.01))
            assert stopped > 0.2
            server.fingers.object_at = 220.0
            hand.goal = 0.0
            wait_for(lambda: server.fingers.get("OBJ") == 2)
            time.sleep(0.1)
            hand.hold()
            assert hand.goal == 0.0


def test_a_gripper_that_is_not_active_moves_only_where_that_is_allowed():
    with RobotiqServer(ADDRESS) as server:
        with pytest.raises(DriverError, match="activate it on the pendant, or set power_on=true"):
            RobotiqHand(ADDRESS, 1.0, 0.5, activate=False)
        assert server.fingers.get("ACT") == 0
        with connected(activate=True):
            assert server.fingers.get("STA") == 3


def test_silence_and_faults_are_told_and_a_missing_gripper_is_refused():
    faults = Faults()
    with RobotiqServer(ADDRESS, faults=faults, active=True) as server:
        wait_for(lambda: server.fingers.get("STA") == 3)
        with connected() as hand:
            server.fingers.set("ACT", 0)
            wait_for(lambda: "was not activated" in hand.fault)
            faults.schedule("bus_silence", after_s=0.0, for_s=2.0)
            wait_for(lambda: "does not answer" in hand.fault)
    with pytest.raises(DriverError, match=f"{ADDRESS}:{PORT} does not answer .*URCap"):
        RobotiqHand(ADDRESS, 1.0, 0.5, activate=True)


def test_wrong_lines_are_answered_by_a_question_mark():
    with RobotiqServer(ADDRESS) as server:
        for line in ("GET XYZ", "SET POS", "SET POS 256", "SET STA 3", "SET POS -1", "", "HELLO"):
            assert server.answer(line) == "?"
        assert server.answer("SET POS 3 SPE 10") == "ack"
        assert server.answer("GET SPE") == "SPE 10"


def test_an_arm_with_a_gripper_has_its_opening_in_actions_and_observations():
    pytest.importorskip("rtde_control", reason="ur_rtde is not installed")
    options = RehearsalOptions("ur5e", ARM_ADDRESS, cameras=False, gripper=True)
    with Rehearsal(options) as arm:
        assert "robot.gripper=robotiq" in arm.device_words
        driver = UR(ARM_ADDRESS, gripper="robotiq", power_on=True, watchdog_s=1.0, silence_s=2.0)
        driver.connect()
        try:
            state = driver.read()
            assert state.positions.shape == driver.limits.lower.shape == (7,)
            assert driver.action_spec.dims[6].name == "gripper"
            assert state.observation["gripper"] == pytest.approx(1.0)
            target = np.array(state.positions)
            target[6] = 0.5
            driver.command(target)
            wait_for(lambda: driver.read().positions[6] < 0.52)
            driver.stop()
            assert driver.read().positions[6] == pytest.approx(0.5, abs=0.03)
        finally:
            driver.close()


def test_options_of_the_gripper_are_checked():
    with pytest.raises(ConfigError, match="valid: none, robotiq"):
        UR("host", gripper="hand")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="gripper_force is 2"):
        UR("host", gripper="robotiq", gripper_force=2)
