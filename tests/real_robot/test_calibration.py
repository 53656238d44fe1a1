"""Calibration of bus arms: files, LeRobot's files, and the ranges found by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hotstart.real_robot.calibration import (
    ArmCalibration,
    MotorCalibration,
    RangeProcedure,
    load_calibration,
    read_lerobot,
    to_lerobot,
)
from hotstart.spec import ConfigError

LEROBOT = {
    "elbow_flex": {
        "id": 3,
        "drive_mode": 0,
        "homing_offset": -1200,
        "range_min": 900,
        "range_max": 3100,
    },
    "gripper": {
        "id": 6,
        "drive_mode": 1,
        "homing_offset": 800,
        "range_min": 1500,
        "range_max": 2900,
    },
}


def sweep(procedure, encoders, offsets, ends):
    """Move every joint from one end to the other and back; returns nothing."""
    for share in np.concatenate([np.linspace(0.5, 0, 20), np.linspace(0, 1, 40)]):
        readings = {}
        for name, (low, high) in ends.items():
            raw = encoders[name] + low + share * (high - low) - offsets.get(name, 0)
            readings[name] = round(raw) % 4096
        procedure.see(readings)


ENDS = {"pan": (-1100, 1300), "lift": (-900, 700), "roll": (-2100, 2100)}
IDS = {"pan": 1, "lift": 2, "roll": 3}


@pytest.mark.parametrize("seed", range(10))
def test_ranges_are_found_wherever_the_encoders_begin(seed):
    rng = np.random.default_rng(seed)
    encoders = {name: int(rng.integers(4096)) for name in ENDS}
    procedure = RangeProcedure(IDS, grippers=())
    sweep(procedure, encoders, {}, ENDS)
    offsets = procedure.finish_sweep()
    assert max(map(abs, offsets.values())) <= 2047
    assert procedure.compare() == dict.fromkeys(ENDS, "not moved yet")
    sweep(procedure, encoders, offsets, ENDS)
    found = procedure.finish("arm", "a test")
    for name in ("pan", "lift"):
        motor = found.motors[name]
        low, high = ENDS[name]
        assert motor.range_max - motor.range_min == pytest.approx(high - low, abs=2)
        # the middle of the range reads 2048, and is 0 rad
        middle = (encoders[name] + (low + high) / 2 - motor.homing_offset) % 4096
        assert middle == pytest.approx(2048, abs=2)
        assert motor.to_position(middle) == pytest.approx(0, abs=0.003)
    assert (found.motors["roll"].range_min, found.motors["roll"].range_max) == (0, 4095)
    assert procedure.phase == "done"


def test_motors_that_add_their_offset_get_the_other_sign():
    offsets = []
    for sign in (1, -1):
        procedure = RangeProcedure(IDS, offset_sign=sign)
        sweep(procedure, dict.fromkeys(ENDS, 300), {}, ENDS)
        offsets.append(procedure.finish_sweep())
    assert offsets[0] == {name: -value for name, value in offsets[1].items()}


def test_a_joint_that_was_not_moved_is_named():
    procedure = RangeProcedure(IDS)
    sweep(procedure, dict.fromkeys(ENDS, 2048), {}, {**ENDS, "lift": (-20, 20)})
    with pytest.raises(ConfigError, match="from end to end: lift;"):
        procedure.finish_sweep()


def test_ends_that_differ_the_second_time_are_told_of():
    procedure = RangeProcedure(IDS)
    encoders = dict.fromkeys(ENDS, 2048)
    sweep(procedure, encoders, {}, ENDS)
    offsets = procedure.finish_sweep()
    sweep(procedure, encoders, offsets, {**ENDS, "pan": (-1100, 1000)})
    with pytest.raises(ConfigError, match="do not agree: pan: 848 to 2948 now, 848 to 3248"):
        procedure.finish("arm", "a test")
    sweep(procedure, encoders, offsets, ENDS)
    procedure.finish("arm", "a test")


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    motors = {
        "a": MotorCalibration(1, -300, 100, 4000, -1, 2000.5, 2.0),
        "gripper": MotorCalibration(2, 5, 1500, 2900, -1, gripper=True),
    }
    arm = ArmCalibration("arm", motors, "2026-11-27T15:00:00+00:00", "/dev/ttyACM0")
    arm.save(tmp_path / "arm.json")
    assert load_calibration(tmp_path / "arm.json") == arm


def test_readings_and_positions_are_one_anothers_inverse():
    joint = MotorCalibration(1, 0, 100, 4000, -1, 2000.5, 2.0)
    gripper = MotorCalibration(2, 0, 1500, 2900, -1, gripper=True)
    assert joint.to_position(2000.5 - 4096) == pytest.approx(np.pi)
    assert [gripper.to_position(end) for end in (2900, 1500)] == [0.0, 1.0]
    assert gripper.limits == (0.0, 1.0)
    for motor in (joint, gripper):
        for reading in (100, 1500, 3999):
            assert motor.to_reading(motor.to_position(reading)) == reading


def test_lerobots_calibration_becomes_ours_and_back(tmp_path):
    path = tmp_path / "follower.json"
    path.write_text(json.dumps(LEROBOT))
    ours = read_lerobot(path, "so101")
    elbow = ours.motors["elbow_flex"]
    # LeRobot says (reading - middle of the range) * 360 / 4095 degrees
    theirs = np.radians((3000 - 2000) * 360 / 4095)
    assert elbow.to_position(3000) == pytest.approx(theirs, rel=3e-4)
    assert ours.motors["gripper"].to_position(2900) == 0.0
    assert to_lerobot(ours) == LEROBOT
    ours.save(tmp_path / "ours.json")
    assert load_calibration(tmp_path / "ours.json") == ours


def test_what_lerobot_cannot_express_is_refused():
    motor = MotorCalibration(1, zero=1900.0, range_min=1000, range_max=3000)
    with pytest.raises(ConfigError, match=r"its zero is the middle of the range \(2000\.0\)"):
        to_lerobot(ArmCalibration("arm", {"pan": motor}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "is no calibration"),
        (json.dumps(LEROBOT), "converted by `read_lerobot` first"),
        ('{"format": 2, "steps_per_turn": 4096, "motors": {}}', "format 1"),
        ('{"format": 1, "steps_per_turn": 4096, "motors": {"a": {"id": "x"}}}', "a is"),
        ('{"format": 1, "steps_per_turn": 4096, "motors": {"a": {"id": 300}}}', "impossible"),
    ],
)
def test_files_that_are_no_calibration_are_refused(tmp_path, text, words):
    path = tmp_path / "arm.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_calibration(path)


def test_impossible_motors_are_refused():
    good = MotorCalibration(1, range_min=0, range_max=4095)
    for wrong in ({"range_min": 4095}, {"gear": 0.0}, {"direction": 0}, {"homing_offset": 10**7}):
        with pytest.raises(ConfigError):
            ArmCalibration("arm", {"a": replace(good, **wrong)})


def test_lerobots_files_of_other_things_are_refused(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"a": {"id": 1}}')
    with pytest.raises(ConfigError, match="drive_mode"):
        read_lerobot(path, "so101")
