"""Arms on servo buses of both vendors, through their own clients over a pty."""

import os
import time
from dataclasses import replace

import numpy as np
import pytest
from hotstart.real_robot.calibration import RangeProcedure
from hotstart.real_robot.driver import DriverError
from hotstart.spec import ConfigError

REST = np.array([0.2, 0.3, -0.2, 0.1, 0.4])


def test_an_arm_reaches_its_target(rig, await_state):
    arm = rig.connect()
    target = np.array([0.5, -0.2, 0.3, 0.0, -0.5, 0.7])
    arm.command(target)
    state = await_state(arm, lambda state: np.abs(state.positions - target).max() < 0.01)
    assert state.observation["joints"].dtype == np.float32
    assert state.fault == ""
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
    servo = rig.servos[0]
    servo.write(servo.table["torque_enable"].address, b"\1")
    time.sleep(0.3)
    assert rig.body.read().positions[0] > REST[0] + 0.2


def test_stop_holds_and_close_leaves_the_torque_on(rig, await_state):
    rig.form = replace(rig.form, velocity=1.0, acceleration=4.0)
    arm = rig.connect()
    arm.command(np.array([1.5, 0.3, -0.2, 0.1, 0.4, 0.0]))
    await_state(arm, lambda state: state.positions[0] > 0.6)
    arm.stop()
    arm.stop()
    for name, servo in zip(arm.names, rig.servos, strict=True):
        assert servo.get(arm.profile) == arm._find_acceleration(name) > 0  # as before the stop
    with pytest.raises(DriverError, match="recover"):
        arm.command(np.zeros(6))
    await_state(arm, lambda state: abs(state.velocities[0]) < 0.05)
    at_rest = await_state(arm, lambda state: abs(state.velocities[0]) < 0.01).positions
    arm.close()
    time.sleep(0.1)
    assert 0.6 < at_rest[0] < 1.3
    assert rig.body.read().positions[0] == pytest.approx(at_rest[0], abs=0.05)
    assert all(servo.holds for servo in rig.servos)


def test_an_arm_that_shall_be_limp_after_a_stop_is(rig):
    arm = rig.connect(limp_on_stop=True)
    arm.close()
    assert not any(servo.holds for servo in rig.servos)


def test_lost_answers_cost_a_joint_its_freshness_and_no_more(rig, await_state):
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
    assert worst < 0.25


def test_broken_answers_are_left_out(rig):
    arm = rig.connect(answer_s=0.003, patience_s=2.0)
    rig.faults.schedule("corrupt", amount=0.3)
    for _ in range(40):
        state = arm.read()
        assert np.abs(state.positions[:5] - REST).max() < 0.01
    assert state.notes["lost"] > 0
    rig.faults.clear()
    arm.close()


def test_a_silent_bus_is_told_of_and_comes_back(rig, await_state):
    arm = rig.connect(answer_s=0.003, patience_s=0.2)
    time.sleep(0.25)  # not asked, a joint is not silent
    rig.faults.schedule("bus_silence")
    begin = time.monotonic()
    stale = arm.read()
    assert stale.notes["late"] == 6
    assert stale.made_s < begin
    with pytest.raises(DriverError, match=r"no answer from shoulder_pan \(0\.\d+ s\)"):
        while time.monotonic() < begin + 2:
            arm.read()
    assert time.monotonic() - begin > 0.15
    rig.faults.clear()
    assert arm.read().notes["late"] < 6
    arm.close()


def test_a_cable_that_is_pulled_and_plugged_in_again(rig, tmp_path):
    link = tmp_path / "arm"
    rig.bus.link = link
    link.symlink_to(rig.bus.path)
    arm = rig.make_arm(str(link), answer_s=0.03)
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
        rig.make_arm("/dev/ttyNONE").connect()
    arm = rig.connect()
    with pytest.raises(DriverError, match="in use by another program"):
        rig.connect()
    arm.close()
    file = tmp_path / "port"
    file.touch(0o000)
    if os.geteuid() != 0:
        with pytest.raises(DriverError, match="no permission"):
            rig.make_arm(str(file)).connect()


def test_a_wrong_speed_is_found(rig):
    with pytest.raises(DriverError, match="answer at 1000000 bits/s, not at 115200"):
        rig.connect(baud=115_200, answer_s=0.03)


def test_a_missing_motor_is_named_and_a_stranger_found(rig):
    rig.servos[3].set("id", 9)
    with pytest.raises(DriverError, match=r"wrist_flex \(id 4\); other ids .*: 9\."):
        rig.connect(answer_s=0.02)


def test_two_motors_with_one_id_are_told_of(rig):
    rig.servos[3].set("id", 3)
    with pytest.raises(DriverError, match=r"id 3 \(elbow_flex\) is broken"):
        rig.connect(answer_s=0.03)


def test_no_power_is_told_of(rig):
    rig.faults.schedule("bus_silence")
    with pytest.raises(DriverError, match="no motor answers"):
        rig.connect(answer_s=0.003)


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
    calibration = rig.form.to_calibration()
    motors = dict(calibration.motors)
    del motors["gripper"]
    replace(calibration, motors=motors).save(tmp_path / "arm.json")
    with pytest.raises(ConfigError, match="has the motors"):
        rig.connect(calibration=str(tmp_path / "arm.json"))


def test_targets_that_are_no_numbers_are_refused(rig):
    arm = rig.connect()
    with pytest.raises(DriverError, match="no target"):
        arm.command(np.full(6, np.nan))
    arm.close()


def test_a_port_is_asked_before_it_is_connected(rig):
    arm = rig.make_arm(rig.bus.path)
    arm.stop()
    with pytest.raises(DriverError, match="not connected"):
        arm.read()


def test_an_arm_is_calibrated_by_hand(rig):
    """The procedure over the wire: sweep, write the offsets, sweep again, connect."""
    ids = {name: motor.id for name, motor in rig.form.motors.items() if not motor.gripper}
    sign = 1 if rig.form.vendor == "feetech" else -1
    arm = rig.make_arm(rig.bus.path)
    arm.connect_limp()
    procedure = RangeProcedure(ids, sign, grippers=())
    arm.write_offsets(dict.fromkeys(ids, 0))
    for _ in range(2):
        for share in (0.0, -0.5, -1.0, -0.5, 0.0, 0.5, 1.0):
            rig.body.rest[:] = 1.2 * share + 0.3
            rig.body.place(rig.body.rest)
            time.sleep(0.03)
            procedure.see(arm.read_readings())
        if procedure.phase == "sweep":
            arm.write_offsets(procedure.finish_sweep())
    found = procedure.finish("arm", "a test")
    assert [motor.limits[1] for motor in found.motors.values()] == pytest.approx(
        [1.2] * 5, abs=0.02
    )
    with pytest.raises(DriverError, match="connected limp"):
        arm.read()
    arm.close()


def test_stale_readings_are_what_they_were(rig):
    arm = rig.connect()
    rig.faults.schedule("stale")
    time.sleep(0.03)
    rig.body.rest[0] = 0.5
    rig.body.place(rig.body.rest)
    time.sleep(0.03)
    assert arm.read().positions[0] == pytest.approx(0.2, abs=0.01)
    rig.faults.clear()
    time.sleep(0.03)
    assert arm.read().positions[0] > 0.2
    arm.close()
