"""An SO-101 of simulated STS3215 motors, driven through the vendor's client over a pty."""

import os
import time
from dataclasses import replace

import numpy as np
import pytest
import scservo_sdk
from hotstart.real_robot.driver import DriverError
from hotstart.real_robot.drivers.arm_form import SO101
from hotstart.real_robot.drivers.bus_arm import BusArmOptions
from hotstart.real_robot.drivers.feetech import FeetechArm, SO101Arm
from hotstart.real_robot.drivers.registers import STS
from hotstart.real_robot.sim.bus import Measured, SimulatedBus, make_mounts
from hotstart.real_robot.sim.faults import Faults
from hotstart.real_robot.sim.feetech import FeetechWire, make_servos
from hotstart.real_robot.sim.plain_body import PlainBody
from hotstart.spec import ConfigError

REST = np.array([0.2, 0.3, -0.2, 0.1, 0.4])
CALIBRATION = SO101.to_calibration()


class Rig:
    """A simulated arm at its terminal, and what it is made of."""

    def __init__(self, calibration=CALIBRATION, held=None):
        self.faults = Faults()
        self.body = PlainBody(5, REST)
        self.servos = make_servos(held or calibration)
        mounts = make_mounts(calibration, 1)
        self.bus = SimulatedBus(FeetechWire(), self.servos, mounts, self.body, self.faults)

    def connect(self, **options):
        options = {"calibration": "nominal", "answer_s": 0.03, **options}
        arm = FeetechArm(SO101, BusArmOptions(self.bus.path, **options))
        arm.connect()
        return arm


@pytest.fixture
def rig():
    rig = Rig()
    with rig.bus:
        yield rig


def await_state(arm, check, timeout_s=2.0):
    until = time.monotonic() + timeout_s
    while True:
        state = arm.read()
        if check(state):
            return state
        assert time.monotonic() < until, state
        time.sleep(0.005)


def test_the_client_itself_reads_and_writes_a_motor(rig):
    port = scservo_sdk.PortHandler(rig.bus.path)
    handler = scservo_sdk.PacketHandler(0)
    assert port.openPort()
    try:
        assert handler.ping(port, 3) == (777, 0, 0)
        assert handler.ping(port, 9)[1] == scservo_sdk.COMM_RX_TIMEOUT
        assert handler.write2ByteTxRx(port, 3, STS["goal_speed"].address, 500) == (0, 0)
        assert handler.read2ByteTxRx(port, 3, STS["goal_speed"].address) == (500, 0, 0)
        assert handler.regWriteTxRx(port, 3, STS["acceleration"].address, 1, [7]) == (0, 0)
        assert rig.servos[2].get("acceleration") == 0
        handler.action(port, scservo_sdk.BROADCAST_ID)
        assert handler.read1ByteTxRx(port, 3, STS["acceleration"].address) == (7, 0, 0)
    finally:
        port.closePort()


def test_a_motor_ignores_writes_to_what_can_only_be_read(rig):
    servo = rig.servos[0]
    before = servo.get("present_voltage")
    servo.write(STS["present_voltage"].address, b"\1")
    assert servo.get("present_voltage") == before


def test_an_arm_reaches_its_target(rig):
    arm = rig.connect()
    target = np.array([0.5, -0.2, 0.3, 0.0, -0.5, 0.7])
    arm.command(target)
    state = await_state(arm, lambda state: np.abs(state.positions - target).max() < 0.01)
    assert state.observation["joints"].dtype == np.float32
    assert state.fault == ""
    assert state.notes["voltage"] == 7.4
    arm.close()


def test_nothing_moves_when_an_arm_with_stale_goals_connects(rig):
    """A motor goes to whatever goal is in its memory once its torque is switched on."""
    for servo in rig.servos:
        servo.set("goal_position", 2048 + 400)
    arm = rig.connect()
    time.sleep(0.2)
    moved = arm.read().positions[:5] - REST
    arm.close()
    assert np.abs(moved).max() < 0.01


def test_stale_goals_do_move_a_motor_without_a_soft_start(rig):
    """What the test above guards against does happen in the simulation."""
    rig.servos[0].set("goal_position", 2048 + 400)
    rig.servos[0].write(STS["torque_enable"].address, b"\1")
    time.sleep(0.3)
    assert rig.body.read().positions[0] > REST[0] + 0.2


def test_stop_holds_and_close_leaves_the_torque_on(rig):
    arm = rig.connect()
    arm.command(np.array([1.5, 0.3, -0.2, 0.1, 0.4, 0.0]))
    await_state(arm, lambda state: state.positions[0] > 0.6)
    arm.stop()
    arm.stop()
    with pytest.raises(DriverError, match="recover"):
        arm.command(np.zeros(6))
    await_state(arm, lambda state: abs(state.velocities[0]) < 0.05)
    at_rest = await_state(arm, lambda state: abs(state.velocities[0]) < 0.01).positions
    arm.close()
    time.sleep(0.1)
    assert 0.6 < at_rest[0] < 1.4
    assert rig.body.read().positions[0] == pytest.approx(at_rest[0], abs=0.05)
    assert all(servo.holds for servo in rig.servos)


def test_an_arm_that_shall_be_limp_after_a_stop_is(rig):
    arm = rig.connect(limp_on_stop=True)
    arm.close()
    assert not any(servo.holds for servo in rig.servos)


def test_a_motor_without_packets_goes_to_its_last_goal_and_holds_it(rig):
    arm = rig.connect()
    assert arm.watchdog_s is None
    arm.command(np.array([0.8, 0.3, -0.2, 0.1, 0.4, 0.0]))
    time.sleep(0.8)
    assert rig.body.read().positions[0] == pytest.approx(0.8, abs=0.01)
    arm.close()


def test_lost_answers_cost_a_joint_its_freshness_and_no_more(rig):
    arm = rig.connect(answer_s=0.003, patience_s=2.0)
    arm.command(np.array([1.0, 0.3, -0.2, 0.1, 0.4, 0.0]))
    rig.faults.schedule("packet_loss", amount=0.05)
    worst = 0.0
    for _ in range(60):
        begin = time.monotonic()
        arm.read()
        worst = max(worst, time.monotonic() - begin)
    assert arm.read().notes["lost"] > 0
    rig.faults.clear()
    await_state(arm, lambda state: abs(state.positions[0] - 1.0) < 0.01)
    arm.close()
    assert worst < 0.1


def test_broken_answers_are_left_out(rig):
    arm = rig.connect(answer_s=0.003, patience_s=2.0)
    rig.faults.schedule("corrupt", amount=0.3)
    for _ in range(40):
        state = arm.read()
        assert np.abs(state.positions[:5] - REST).max() < 0.01
    assert state.notes["lost"] > 0
    rig.faults.clear()
    arm.close()


def test_a_silent_bus_is_told_of_and_comes_back(rig):
    arm = rig.connect(answer_s=0.003)
    rig.faults.schedule("bus_silence", for_s=0.45)
    begin = time.monotonic()
    stale = arm.read()
    assert time.monotonic() - begin < 0.06
    assert stale.notes["late"] == 6
    with pytest.raises(DriverError, match=r"no answer from shoulder_pan \(0\.\d+ s\)"):
        while time.monotonic() < begin + 1:
            arm.read()
    assert 0.2 < time.monotonic() - begin < 0.4
    time.sleep(0.3)
    assert arm.read().notes["late"] == 0
    arm.close()


def test_an_overload_is_named_and_cleared(rig):
    arm = rig.connect()
    rig.faults.schedule("overload", for_s=0.1, amount=2)
    state = await_state(arm, lambda state: state.fault)
    assert state.fault == "overload of elbow_flex"
    assert not rig.servos[2].holds
    time.sleep(0.15)
    assert arm.read().fault  # it is latched
    arm.recover()
    assert arm.read().fault == ""
    assert rig.servos[2].holds
    arm.close()


@pytest.mark.parametrize(
    ("kind", "word"), [("overheat", "temperature"), ("low_voltage", "voltage")]
)
def test_heat_and_voltage_are_named_and_end_with_their_cause(rig, kind, word):
    arm = rig.connect()
    rig.faults.schedule(kind, amount=5)
    assert await_state(arm, lambda state: state.fault).fault == f"{word} of gripper"
    with pytest.raises(DriverError, match="still there"):
        arm.recover()
    rig.faults.clear()
    time.sleep(0.02)
    arm.recover()
    arm.close()


def test_a_load_that_lasts_is_an_overload():
    servo = make_servos(CALIBRATION)[0]
    servo.write(STS["torque_enable"].address, b"\1")
    pushed = Measured(2048.0, 0.0, 0.9)
    servo.tick(0.0, 0.005, pushed, True)
    servo.tick(1.9, 0.005, pushed, True)
    assert servo.holds
    servo.tick(2.1, 0.005, pushed, True)
    assert not servo.holds
    servo.write(STS["torque_enable"].address, b"\0")
    servo.write(STS["torque_enable"].address, b"\1")
    assert servo.holds


def test_a_cable_that_is_pulled_and_plugged_in_again(rig, tmp_path):
    link = tmp_path / "arm"
    rig.bus._options = replace(rig.bus._options, link=link)
    link.symlink_to(rig.bus.path)
    arm = FeetechArm(SO101, BusArmOptions(str(link), "nominal", answer_s=0.03))
    arm.connect()
    rig.faults.schedule("unplugged", for_s=0.15)
    with pytest.raises(DriverError, match="plugged"):
        while True:
            arm.read()
    time.sleep(0.2)
    arm.recover()
    assert arm.read().notes["late"] == 0
    arm.close()


def test_a_missing_port_a_used_port_and_a_forbidden_port_are_told_apart(rig, tmp_path):
    with pytest.raises(DriverError, match="there is no port"):
        SO101Arm("/dev/ttyNONE", "nominal").connect()
    arm = rig.connect()
    with pytest.raises(DriverError, match="in use by another program"):
        rig.connect()
    arm.close()
    file = tmp_path / "port"
    file.touch(0o000)
    if os.geteuid() != 0:
        with pytest.raises(DriverError, match="no permission"):
            SO101Arm(str(file), "nominal").connect()


def test_a_wrong_speed_is_found(rig):
    with pytest.raises(DriverError, match="answer at 1000000 bits/s, not at 500000"):
        rig.connect(baud=500_000, answer_s=0.01)


def test_a_missing_motor_is_named_and_a_stranger_found():
    rig = Rig()
    rig.servos[3].set("id", 9)
    with rig.bus, pytest.raises(DriverError, match=r"wrist_flex \(id 4\); other ids .*: 9\."):
        rig.connect(answer_s=0.003)


def test_two_motors_with_one_id_are_told_of():
    rig = Rig()
    rig.servos[3].set("id", 3)
    with rig.bus, pytest.raises(DriverError, match=r"id 3 \(elbow_flex\) is broken"):
        rig.connect(answer_s=0.01)


def test_no_power_is_told_of(rig):
    rig.faults.schedule("bus_silence")
    with pytest.raises(DriverError, match="no motor answers"):
        rig.connect(answer_s=0.003)


def test_motors_that_hold_another_calibration_are_refused_or_written():
    motors = dict(CALIBRATION.motors)
    motors["elbow_flex"] = replace(motors["elbow_flex"], homing_offset=100)
    rig = Rig(held=replace(CALIBRATION, motors=motors))
    with rig.bus:
        with pytest.raises(DriverError, match="elbow_flex holds homing_offset 100"):
            rig.connect()
        arm = rig.connect(write_calibration=True)
        assert arm.read().positions[2] == pytest.approx(REST[2], abs=0.01)
        arm.close()
    servo = rig.servos[2]
    servo.power_cycle()
    assert servo.get("homing_offset") == 0


def test_an_encoder_whose_zero_lies_within_the_range_reads_on(tmp_path):
    """The homing offset moves the wrap-around out of the joint's range."""
    motors = dict(CALIBRATION.motors)
    motors["elbow_flex"] = replace(motors["elbow_flex"], homing_offset=-1900, direction=-1)
    calibration = replace(CALIBRATION, motors=motors)
    calibration.save(tmp_path / "arm.json")
    rig = Rig(calibration)
    with rig.bus:
        arm = rig.connect(calibration=str(tmp_path / "arm.json"))
        for goal in (-1.2, 1.2):
            arm.command(np.append(REST, 0.0) + np.eye(6)[2] * (goal - REST[2]))
            await_state(arm, lambda state, goal=goal: abs(state.positions[2] - goal) < 0.01)
        arm.close()


def test_a_motor_that_counts_turns_is_set_to_one_turn():
    rig = Rig()
    rig.servos[0].set("phase", 12 | 0x10)
    with rig.bus:
        rig.connect().close()
    assert rig.servos[0].get("phase") == 12


def test_an_arm_outside_its_range_is_not_switched_on(rig):
    rig.body.rest[0] = 2.5
    rig.body.place(rig.body.rest)
    time.sleep(0.02)
    with pytest.raises(DriverError, match=r"shoulder_pan stands at .* outside its range"):
        rig.connect()
    assert not any(servo.holds for servo in rig.servos)


def test_a_calibration_is_asked_for_and_has_to_fit(rig, tmp_path):
    with pytest.raises(ConfigError, match="needs a calibration file"):
        rig.connect(calibration="")
    motors = dict(CALIBRATION.motors)
    del motors["gripper"]
    replace(CALIBRATION, motors=motors).save(tmp_path / "arm.json")
    with pytest.raises(ConfigError, match="has the motors"):
        rig.connect(calibration=str(tmp_path / "arm.json"))


def test_targets_that_are_no_numbers_are_refused(rig):
    arm = rig.connect()
    with pytest.raises(DriverError, match="no target"):
        arm.command(np.full(6, np.nan))
    arm.close()


def test_a_port_is_asked_before_it_is_connected(rig):
    arm = SO101Arm(rig.bus.path, "nominal")
    arm.stop()
    with pytest.raises(DriverError, match="not connected"):
        arm.read()
