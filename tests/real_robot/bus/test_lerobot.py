"""The adapter for robots of LeRobot, against a robot of the same shape (LeRobot needs 3.12)."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hotstart.real_robot.driver import DriverError
from hotstart.real_robot.drivers.lerobot import LeRobotArm
from hotstart.spec import ConfigError

HERE = f"{__name__}:TwoJoints"


@dataclass
class TwoJointsConfig:
    port: str
    calibrated: bool = True
    disable_torque_on_disconnect: bool = True


class TwoJoints:
    """What LeRobot's `Robot` asks of a robot, with joints that are where they are sent to."""

    config_class = TwoJointsConfig
    action_features = {"pan.pos": float, "gripper.pos": float}  # noqa: RUF012
    made: "list[TwoJoints]" = []  # noqa: RUF012

    def __init__(self, config):
        self.config = config
        self.is_connected = False
        self.is_calibrated = config.calibrated
        self.places = {"pan.pos": 10.0, "gripper.pos": 50.0}
        self.sent = []
        TwoJoints.made.append(self)

    def connect(self, calibrate=True):
        assert not calibrate
        self.is_connected = True

    def disconnect(self):
        self.is_connected = False

    def get_observation(self):
        if self.config.port == "broken":
            raise ConnectionError("there is no status packet")
        return {**self.places, "front": np.full((4, 6, 3), 7, np.uint8)}

    def send_action(self, action):
        self.sent.append(action)
        self.places.update(action)
        return action


def make_arm(**options):
    return LeRobotArm(HERE, {"port": "x", **options}, joints=("pan", "gripper"))


def test_actions_and_observations_have_lerobots_names_and_units():
    arm = LeRobotArm(HERE, {"port": "x"}, ("pan", "gripper"), pictures={"front": (4, 6)})
    assert [(dim.name, dim.unit) for dim in arm.action_spec.dims] == [
        ("pan", "deg"),
        ("gripper", "%"),
    ]
    assert arm.limits.lower.tolist() == [-180, 0]
    assert arm.limits.upper.tolist() == [180, 100]
    arm.connect()
    arm.command(np.array([20.0, 80.0]))
    state = arm.read()
    assert state.positions.tolist() == [20.0, 80.0]
    assert state.observation["front"].shape == (4, 6, 3)
    assert TwoJoints.made[-1].sent == [{"pan.pos": 20.0, "gripper.pos": 80.0}]


def test_stop_holds_and_close_leaves_the_torque_on():
    arm = make_arm()
    arm.connect()
    arm.stop()
    robot = TwoJoints.made[-1]
    assert robot.sent == [{"pan.pos": 10.0, "gripper.pos": 50.0}]
    with pytest.raises(DriverError, match="recover"):
        arm.command(np.zeros(2))
    arm.recover()
    arm.command(np.zeros(2))
    arm.close()
    assert not robot.is_connected
    assert not robot.config.disable_torque_on_disconnect
    arm.close()


def test_what_the_robot_raises_is_told_as_our_error():
    arm = make_arm(port="broken")
    arm.connect()
    with pytest.raises(DriverError, match="failed to read: there is no status packet"):
        arm.read()


def test_robots_that_do_not_fit_are_refused():
    with pytest.raises(DriverError, match="lerobot-calibrate"):
        make_arm(calibrated=False).connect()
    with pytest.raises(ConfigError, match=r"takes pan\.pos, gripper\.pos"):
        LeRobotArm(HERE, {"port": "x"}).connect()
    with pytest.raises(ConfigError, match="possible: port, calibrated"):
        make_arm(wrong=1).connect()
    with pytest.raises(ConfigError, match="deg and %"):
        LeRobotArm(HERE, unit="rad")


def test_lerobot_is_imported_by_connect_alone_and_its_absence_is_told_of(monkeypatch):
    monkeypatch.setitem(sys.modules, "lerobot", None)
    arm = LeRobotArm("so101_follower", {"port": "/dev/null"})
    with pytest.raises(ConfigError, match=r"needs LeRobot .* Python 3\.12"):
        arm.connect()
