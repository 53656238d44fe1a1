"""Feetech STS3215 motors as simulated, and what is particular to arms of them."""

import time
from dataclasses import replace

import numpy as np
import pytest
import scservo_sdk
from hotstart.real_robot.driver import DriverError
from hotstart.real_robot.drivers.arm_form import SO101
from hotstart.real_robot.drivers.registers import STS
from hotstart.real_robot.sim.bus import Measured
from hotstart.real_robot.sim.feetech import make_servos

CALIBRATION = SO101.to_calibration()


def test_the_client_itself_reads_and_writes_a_motor(so101, monkeypatch):
    monkeypatch.setattr("scservo_sdk.port_handler.LATENCY_TIMER", 100)  # a busy machine
    port = scservo_sdk.PortHandler(so101.bus.path)
    handler = scservo_sdk.PacketHandler(0)
    assert port.openPort()
    try:
        assert handler.ping(port, 3) == (777, 0, 0)
        assert handler.ping(port, 9)[1] == scservo_sdk.COMM_RX_TIMEOUT
        assert handler.write2ByteTxRx(port, 3, STS["goal_speed"].address, 500) == (0, 0)
        assert handler.read2ByteTxRx(port, 3, STS["goal_speed"].address) == (500, 0, 0)
        assert handler.regWriteTxRx(port, 3, STS["acceleration"].address, 1, [7]) == (0, 0)
        assert so101.servos[2].get("acceleration") == 0
        handler.action(port, scservo_sdk.BROADCAST_ID)
        assert handler.read1ByteTxRx(port, 3, STS["acceleration"].address) == (7, 0, 0)
    finally:
        port.closePort()


def test_a_motor_ignores_writes_to_what_can_only_be_read(so101):
    servo = so101.servos[0]
    before = servo.get("present_voltage")
    servo.write(STS["present_voltage"].address, b"\1")
    assert servo.get("present_voltage") == before


def test_a_motor_without_packets_goes_to_its_last_goal_and_holds_it(so101):
    arm = so101.connect()
    assert arm.watchdog_s is None
    arm.command(np.array([0.8, 0.3, -0.2, 0.1, 0.4, 0.0]))
    time.sleep(0.8)
    assert so101.body.read().positions[0] == pytest.approx(0.8, abs=0.01)
    arm.close()


def test_an_overload_is_named_and_cleared(so101, await_state):
    arm = so101.connect()
    so101.faults.schedule("overload", for_s=0.1, amount=2)
    state = await_state(arm, lambda state: state.fault)
    assert state.fault == "overload of elbow_flex"
    assert not so101.servos[2].holds
    time.sleep(0.15)
    assert arm.read().fault  # it is latched
    arm.recover()
    assert arm.read().fault == ""
    assert so101.servos[2].holds
    arm.close()


@pytest.mark.parametrize(
    ("kind", "word"), [("overheat", "temperature"), ("low_voltage", "voltage")]
)
def test_heat_and_voltage_are_named_and_end_with_their_cause(so101, await_state, kind, word):
    arm = so101.connect()
    so101.faults.schedule(kind, amount=5)
    assert await_state(arm, lambda state: state.fault).fault == f"{word} of gripper"
    with pytest.raises(DriverError, match="still there"):
        arm.recover()
    so101.faults.clear()
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


def test_motors_that_hold_another_calibration_are_refused_or_written(make_rig):
    motors = dict(CALIBRATION.motors)
    motors["elbow_flex"] = replace(motors["elbow_flex"], homing_offset=100)
    rig = make_rig(SO101, held=replace(CALIBRATION, motors=motors))
    with pytest.raises(DriverError, match="elbow_flex holds homing_offset 100"):
        rig.connect()
    rig.connect(write_calibration=True).close()
    servo = rig.servos[2]
    servo.power_cycle()
    assert servo.get("homing_offset") == 0


def test_an_encoder_whose_zero_lies_within_the_range_reads_on(make_rig, await_state, tmp_path):
    """The homing offset moves the wrap-around out of the joint's range."""
    motors = dict(CALIBRATION.motors)
    motors["elbow_flex"] = replace(motors["elbow_flex"], homing_offset=-1900, direction=-1)
    calibration = replace(CALIBRATION, motors=motors)
    calibration.save(tmp_path / "arm.json")
    rig = make_rig(SO101, calibration)
    arm = rig.connect(calibration=str(tmp_path / "arm.json"))
    goals = np.append(rig.body.rest, 0.0)
    for goals[2] in (-1.2, 1.2):
        arm.command(goals)
        await_state(arm, lambda state: np.abs(state.positions - goals).max() < 0.01)
    arm.close()


def test_a_motor_that_counts_turns_is_set_to_one_turn(so101):
    so101.servos[0].set("phase", 12 | 0x10)
    so101.connect().close()
    assert so101.servos[0].get("phase") == 12
