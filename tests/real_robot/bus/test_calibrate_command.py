"""`hotstart robot calibrate`: by hand, over the wire; and what `robot latency` refuses."""

import time

import numpy as np
import pytest
from hotstart.commands.robot import calibrate, make_arm, measure_latency
from hotstart.configs.robots import CalibrateArm, MeasureLatency
from hotstart.real_robot.calibration import load_calibration
from hotstart.real_robot.drivers.feetech import SO101Arm
from hotstart.spec import ConfigError


class Hand:
    """Moves a limp arm from end to end, a place at every question, and then presses Enter."""

    def __init__(self, body, ends):
        self.body, self.ends = body, ends
        self.left = []

    def __call__(self):
        if not self.left:
            self.left = [0.0, -0.5, -1.0, -0.5, 0.0, 0.5, 1.0, None]
        share = self.left.pop(0)
        if share is None:
            return True
        self.body.rest[:] = self.ends * share
        self.body.place(self.body.rest)
        self.body._values[-1] = 0.5 + 0.5 * share
        time.sleep(0.03)
        return False


def test_an_arm_is_calibrated_and_connects_by_its_file(so101, tmp_path, capsys):
    out = tmp_path / "so101.json"
    options = CalibrateArm("so101", so101.bus.path, out)
    ends = np.array([1.2, 1.0, 1.1, 0.9, 1.3])
    assert calibrate(options, Hand(so101.body, ends)) == 0
    found = load_calibration(out)
    for motor, end in zip(list(found.motors.values())[:5], ends, strict=True):
        assert motor.limits[1] == pytest.approx(end, abs=0.03)
    assert "shoulder_pan" in capsys.readouterr().out
    so101.body.place(np.zeros(5))
    arm = SO101Arm(so101.bus.path, str(out), answer_s=0.1)
    arm.connect()
    assert arm.read().fault == ""
    arm.stop()
    arm.close()
    with pytest.raises(ConfigError, match="is not overwritten unasked"):
        calibrate(options, Hand(so101.body, ends))


def test_a_joint_that_was_not_moved_is_named(so101, tmp_path):
    ends = np.array([1.2, 0.0, 1.1, 0.9, 1.3])
    options = CalibrateArm("so101", so101.bus.path, tmp_path / "so101.json")
    with pytest.raises(ConfigError, match="move these joints from end to end: shoulder_lift"):
        calibrate(options, Hand(so101.body, ends))


def test_options_of_a_driver_are_read_as_their_types(tmp_path):
    arm = make_arm("ur5e", {"host": "127.0.0.1", "servo_hz": "250", "power_on": "true"})
    assert arm.servo_hz == 250.0
    with pytest.raises(ConfigError, match="unknown option of ur5e 'hst'"):
        make_arm("ur5e", {"hst": "127.0.0.1"})
    options = MeasureLatency("ur5e", {"host": "127.0.0.1"}, joint=9, out=tmp_path / "lag.json")
    with pytest.raises(ConfigError, match=r"joint is 9; ur5e has 0 \(shoulder_pan\)"):
        measure_latency(options)
