"""Operators: keys of a real terminal, a SpaceMouse, a leader arm, and sessions that record them."""

import os
import pty
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hotstart.arms import make_scene
from hotstart.arms.demonstrators import DiscPusher
from hotstart.commands import record as record_command
from hotstart.configs.recording import Record
from hotstart.control import LoopSettings, RealClock, VirtualClock, run
from hotstart.datasets.store import Store
from hotstart.planners import ImmediatePlanner
from hotstart.real_robot.driver import ArmState
from hotstart.real_robot.keys import KEPT_S, KeyBox, TerminalKeys, read_keys
from hotstart.real_robot.overlay import Overlay
from hotstart.real_robot.recorder import Recorder
from hotstart.real_robot.safety import JUMPS
from hotstart.real_robot.session import Session, SessionEnd
from hotstart.real_robot.teleop import OperatorPolicy, RobotView, Scripted, make
from hotstart.real_robot.teleop.leader import LeaderArm
from hotstart.real_robot.teleop.scripted import REACH_RAD
from hotstart.spec import ActionDim, ActionSpec, Actor, ConfigError, Feedback, HotstartError, Part

from .bench_arm import Arm, wait_for

TOOL = ActionSpec(
    (
        ActionDim("x", "m"),
        ActionDim("y", "m"),
        ActionDim("z", "m"),
        ActionDim("rz", "rad", "rotation"),
        ActionDim("gripper", ""),
    )
)


def view(*position):
    return RobotView({}, np.array(position, float))


def read(operator, now_s, seen) -> np.ndarray:
    action = operator.read(now_s, seen)
    assert action is not None
    return action


def test_keys_of_a_terminal_have_names_and_the_terminal_is_as_before():
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with TerminalKeys(theirs) as keys:
        assert termios.tcgetattr(theirs)[3] & termios.ISIG  # Ctrl-C stays what it is
        os.write(ours, b"cS\x1b[A\x1b[5~ \x7f\x1bOC")
        found: list[str] = []
        names = {"c", "s", "up", "page_up", "space", "backspace", "right"}
        wait_for(lambda: len(found) == 7 or found.extend(keys.take(names)))
        assert found == ["c", "s", "up", "page_up", "space", "backspace", "right"]
        os.write(ours, b"\x1b")  # a sequence in two parts
        os.write(ours, b"[B")
        wait_for(lambda: keys.take({"down"}))
    assert termios.tcgetattr(theirs) == before
    with TerminalKeys(theirs) as keys:
        os.close(ours)
        wait_for(lambda: keys.closed)
    os.close(theirs)
    with Path("/dev/null").open() as file, pytest.raises(ConfigError, match="input is none"):
        TerminalKeys(file.fileno())


def test_what_is_no_key_is_left_out():
    assert read_keys(b"\x00\x01q\xc3\xa4\x1b[200~\x1b") == ["q", "escape"]


def test_each_listener_takes_its_own_keys_and_old_ones_are_dropped():
    box = KeyBox()
    box.press("c", "up", "s", "up")
    assert box.take({"up"}) == ["up", "up"]
    assert box.take({"c", "s"}) == ["c", "s"]
    box._waiting.append((time.monotonic() - KEPT_S - 0.1, "c"))
    assert box.take({"c"}) == []


def test_keys_move_joints_by_steps_from_where_the_arm_is():
    box = KeyBox()
    keyboard = make("keyboard", Arm.action_spec, box, step=0.1, leash=0.25)
    box.press("up")
    keyboard.begin(np.array([0.5, 0.0, 1.0]))
    here = view(0.5, 0.0, 1.0)
    np.testing.assert_allclose(read(keyboard, 0.0, here), [0.5, 0, 1])  # older keys do not count
    box.press("up", "2", "-", "left", "up", "g")
    np.testing.assert_allclose(read(keyboard, 0.1, here), [0.7, -0.1, 0])
    box.press(*["up"] * 9)  # the arm does not move: it is blocked
    np.testing.assert_allclose(read(keyboard, 0.2, here), [0.75, -0.1, 0])
    box.press("g")
    np.testing.assert_allclose(read(keyboard, 0.3, here), [0.75, -0.1, 1])
    with pytest.raises(ConfigError, match="0 < step <= leash"):
        make("keyboard", Arm.action_spec, box, step=0.3)


def test_keys_move_a_tool_along_its_axes():
    box = KeyBox()
    keyboard = make("keyboard", TOOL, box, step=0.01)
    keyboard.begin(np.zeros(5))
    box.press("up", "left", "page_down", "4", "+")
    found = read(keyboard, 0.0, view(0, 0, 0, 0, 0))
    np.testing.assert_allclose(found, [0.01, 0.01, -0.01, 0.01, 0])


def test_changes_are_told_once():
    spec = ActionSpec((ActionDim("shoulder", "rad", absolute=False), ActionDim("gripper", "")))
    box = KeyBox()
    keyboard = make("keyboard", spec, box, step=0.1)
    keyboard.begin(np.zeros(2))
    box.press("up")
    np.testing.assert_allclose(read(keyboard, 0.0, view(0, 0)), [0.1, 0])
    np.testing.assert_allclose(read(keyboard, 0.1, view(0, 0)), [0, 0])


def test_a_spacemouse_by_its_documented_interface(monkeypatch):
    with pytest.raises(ConfigError, match=r"hotstart\[spacemouse\]"):
        make("spacemouse", TOOL, KeyBox()).start()
    rest = dict.fromkeys(("t", "x", "y", "z", "roll", "pitch", "yaw"), 0.0)
    state = SimpleNamespace(**rest, buttons=[0, 0])
    closed = []
    device = SimpleNamespace(read=lambda: state, close=lambda: closed.append(1))
    sdk = SimpleNamespace(
        open=lambda axis_convention: device, AxisConvention=SimpleNamespace(ROS="ros")
    )
    monkeypatch.setitem(sys.modules, "pyspacemouse", sdk)
    mouse = make("spacemouse", TOOL, KeyBox(), speed=0.1, turn_speed=1.0)
    mouse.start()
    mouse.begin(np.array([0.3, 0, 0, 0, 1]))
    here = view(0.3, 0, 0, 0, 1)
    state.x, state.y, state.yaw = 1.0, 0.05, -0.5  # y is within the dead zone
    np.testing.assert_allclose(read(mouse, 5.0, here), [0.3, 0, 0, 0, 1])
    state.buttons = [1, 0]
    np.testing.assert_allclose(read(mouse, 5.1, here), [0.31, 0, 0, -0.05, 0])
    np.testing.assert_allclose(read(mouse, 9.0, here), [0.32, 0, 0, -0.1, 0])  # a pause is no leap
    mouse.close()
    assert closed == [1]
    with pytest.raises(ConfigError, match="teleop=leader"):
        make("spacemouse", Arm.action_spec, KeyBox())


class Leader:
    """A second arm that somebody holds at `position`; its joints have another order."""

    name = "leader"
    action_spec = ActionSpec(
        (ActionDim("gripper", ""), ActionDim("elbow", "rad"), ActionDim("shoulder", "rad"))
    )

    def __init__(self) -> None:
        self.position = np.array([1.0, 0.0, 0.0])
        self.calls: list[str] = []

    def read(self):
        return ArmState(time.monotonic(), self.position, np.zeros(3), {})

    def connect(self):
        self.calls.append("connect")

    def stop(self):
        self.calls.append("stop")


def test_a_robot_comes_to_its_leader_slowly_and_then_follows_at_once():
    driver: Any = Leader()
    leader = LeaderArm(Arm.action_spec, driver, catch_up=1.0)
    leader.start()
    assert driver.calls == ["connect", "stop"]  # without torque
    leader.begin(np.array([0.25, 0, 0.9]))
    path = [read(leader, 0.1 * i, view(0, 0, 0)) for i in range(5)]
    np.testing.assert_allclose(np.array(path)[:, 0], [0.25, 0.15, 0.05, 0, 0], atol=1e-9)
    np.testing.assert_allclose(path[2], [0.05, 0, 1.0])
    driver.position = np.array([0.0, -0.7, 0.8])
    np.testing.assert_allclose(read(leader, 0.5, view(0, 0, 0)), [0.8, -0.7, 0.0])
    other = ActionSpec((ActionDim("wrist", "rad"),))
    with pytest.raises(ConfigError, match=r"is told \['wrist'\] too"):
        LeaderArm(other, driver)


def act(box, at):
    """An operator who moves the shoulder, and presses `at[turn]` keys."""
    turns = []

    def say(now_s, seen):
        turns.append(now_s)
        box.press(*at.get(len(turns), ()))
        if len(turns) % 5 == 0:
            return None
        return np.array([0.01 * len(turns), 0.3, 1.0])

    return Scripted(say)


def test_a_session_records_marks_and_drops_as_keys_say(tmp_path):
    arm, box = Arm(VirtualClock()), KeyBox()
    keys = {
        3: ["c"],
        10: ["s"],
        12: ["y"],  # 7 steps, a success
        14: ["c", "q"],
        20: ["s", "backspace"],  # dropped
        22: ["c"],
        32: ["s"],
        33: ["n"],
        35: ["backspace"],  # taken back
        40: ["c"],  # as long as it may be
        52: ["n"],
        60: ["q"],
    }
    said: list[str] = []
    with Recorder(tmp_path / "a.zarr", arm, clock=arm.clock) as recorder:
        session = Session(recorder, box, said.append, seconds=0.8)
        policy = OperatorPolicy(arm, act(box, keys), arm.clock)
        overlay = Overlay(np.full((8, 8, 3), 100, np.uint8), "front", tmp_path / "overlay.jpg")
        with pytest.raises(SessionEnd):
            run(
                arm,
                policy,
                ImmediatePlanner(policy),
                arm.clock,
                [0],
                LoopSettings(100),
                listeners=[overlay, session],
            )
        recorder.wait()
    assert arm.stops == 1
    assert "recording episode 1" in said
    assert any("S ends it" in line for line in said)
    store = Store.open(tmp_path / "a.zarr")
    assert store.lengths.tolist() == [7, 8]
    assert [bool(store.episode(n)["success"][-1]) for n in range(2)] == [True, False]
    assert (store.array("actor") == Actor.OPERATOR).all()
    first = store.episode(0)
    np.testing.assert_allclose(first["action"][:2, 0], [0.04, 0.04])  # the fifth: nothing new
    assert (tmp_path / "overlay.jpg").stat().st_size > 100
    assert "overlay.jpg" in (tmp_path / "overlay.html").read_text()


ROBOT = """
from hotstart.control import RealClock
from bench_arm import Arm

class Bench(Arm):
    def __init__(self, rate_hz: float = 10.0):
        super().__init__(RealClock(), rate_hz)
"""


def test_the_command_records_what_keys_in_a_terminal_say(tmp_path, plugin_package):
    """As an operator does it: `hotstart record` in a terminal of its own."""
    folder = plugin_package(
        "bench_robot", ROBOT, {"hotstart.robots": ["bench = bench_robot:Bench"]}
    )
    ours, theirs = pty.openpty()
    paths = os.pathsep.join([str(folder), str(Path(__file__).parent), *sys.path])
    command = ["record", str(tmp_path / "a.zarr"), "robot=bench", "robot.rate_hz=50"]
    program = [sys.executable, "-m", "hotstart", *command, "teleop.step=0.05"]
    process = subprocess.Popen(
        program,
        stdin=theirs,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
        text=True,
    )
    assert process.stdout is not None
    assert "has 0 episodes. C begins" in process.stdout.readline()
    os.write(ours, b"c")
    assert process.stdout.readline() == "recording episode 0\n"
    for key in (b"\x1b[A", b"\x1b[A", b"2", b"-"):
        os.write(ours, key)
        time.sleep(0.05)
    os.write(ours, b"s")
    assert "success? Y or N" in process.stdout.readline()
    os.write(ours, b"y")
    assert "episode 0: " in process.stdout.readline()
    os.write(ours, b"q")
    assert "a.zarr: 1 episodes" in process.stdout.read()
    assert process.wait(20) == 0
    os.close(ours)
    os.close(theirs)
    episode = Store.open(tmp_path / "a.zarr").episode(0)
    np.testing.assert_allclose(episode["action"][-1], [0.2, -0.25, 1.0], rtol=1e-6)
    assert episode["success"][-1]


def test_options_that_cannot_be_are_refused_before_anything_moves(tmp_path):
    good = Record(out=tmp_path / "a.zarr", robot=Part("bench"))
    record_command.check(good)
    with pytest.raises(ConfigError, match="seconds is -1"):
        record_command.check(Record(out=tmp_path, robot=Part("bench"), seconds=-1))
    options = Record(out=tmp_path, robot=Part("bench"), overlay=tmp_path, overlay_camera="wrist")
    with pytest.raises(ConfigError, match=r"overlay_camera is 'wrist'; the robot has \['front'\]"):
        record_command.make_overlay(options, Arm(VirtualClock()))
    with pytest.raises(ConfigError, match=r"it must be a \.jpg"):
        Overlay(np.zeros((8, 8, 3), np.uint8), "front", tmp_path / "overlay.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate_hz": 0}, "rate_hz is 0"),
        ({"speed": 1.5}, r"speed is 1\.5"),
        ({"camera_size": (240,)}, "height,width are wanted"),
        ({"box": (0, 1, 0)}, "x0,x1,y0,y1,z0,z1"),
        ({"box": (1, 0, 0, 1, 0, 1)}, "x0 < x1"),
        ({"stage": "example.org:80"}, "127.0.0.1:PORT is wanted"),
    ],
)
def test_a_robot_that_cannot_be_reached_so_is_refused(change, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        record_command.check(Record(out=tmp_path, robot=Part("so101"), **change))


def test_an_episode_that_the_loop_ends_is_finished_with_its_outcome(tmp_path):
    arm, box = Arm(VirtualClock()), KeyBox()
    with Recorder(tmp_path / "a.zarr", arm, clock=arm.clock) as recorder:
        session = Session(recorder, box, print)
        session.end_episode(True)  # nothing was going on
        box.press("c")
        policy = OperatorPolicy(arm, Scripted(lambda now_s, seen: None), arm.clock)
        planner = ImmediatePlanner(policy)
        run(arm, policy, planner, arm.clock, [0], LoopSettings(5), [session])
        session.end_episode(True)
        recorder.wait()
    assert Store.open(tmp_path / "a.zarr").array("success").tolist() == [False] * 3 + [True]


def test_a_scripted_operator_does_from_measurements_what_the_demonstrator_of_a_scene_does():
    scene = make_scene("ur5e_push")
    operator = make("scripted", scene.arm.action_spec, KeyBox(), pace=1.0)
    for seed in range(3):
        scene.reset(seed)
        yaw = [np.sin(scene.object_yaw), np.cos(scene.object_yaw)]
        seen = {
            "joints": scene.action.astype(np.float32),
            "object": np.array([*scene.object_position, *yaw]),
            "goal": scene.goal,
        }
        action = read(operator, 0.0, RobotView(seen, scene.action))
        np.testing.assert_allclose(action, DiscPusher().move(scene).action, atol=1e-4)
        assert np.abs(action - scene.action).max() > 0.005
    with pytest.raises(ConfigError, match="reads 'object', and the robot shows joints"):
        operator.read(0.0, RobotView({"joints": scene.action}, scene.action))
    with pytest.raises(ConfigError, match="told shoulder, elbow, gripper; scenes are ur5e_push"):
        make("scripted", Arm.action_spec, KeyBox())


def test_a_scripted_operator_begins_near_where_the_arm_is():
    scene = make_scene("so101_lift")
    operator = make("scripted", scene.arm.action_spec, KeyBox())
    scene.reset(18)
    yaw = [np.sin(scene.object_yaw), np.cos(scene.object_yaw)]
    measured = scene.action
    seen = {"joints": measured, "object": np.array([*scene.object_position, *yaw])}
    view = RobotView(seen, measured)
    operator.begin(measured)
    action = read(operator, 0.0, view)
    far = np.abs(action - measured)[: scene.joints]
    assert far.max() == pytest.approx(REACH_RAD)
    assert far.max() < JUMPS["rad"] < np.abs(read(operator, 0.1, view) - measured).max()


class Stage(Arm):
    """An arm on a stage that sees success in every second episode, at its fourth step."""

    def __init__(self):
        super().__init__(RealClock(), 100.0)
        self.seeds: list[int] = []

    def reset(self, seeds):
        self.seeds += seeds
        self.turn = 0

    def act(self, actions, substeps=None, timed=None):
        done = np.array([len(self.seeds) % 2 == 0 and self.turn >= 4])
        told = vars(super().act(actions, substeps, timed))
        return Feedback(**{**told, "terminated": done, "success": done, "reports_success": None})


def test_a_stage_begins_and_ends_episodes_and_what_fails_is_dropped(tmp_path, monkeypatch):
    options = Record(
        out=tmp_path / "a.zarr",
        robot=Part("bench"),
        stage="127.0.0.1:1",
        ask=False,
        episodes=2,
        seconds=0.1,
        seed=7,
    )
    arm = Stage()
    with Recorder(options.out, arm) as recorder:
        policy = OperatorPolicy(arm, Scripted(lambda now_s, seen: None))
        record_command.follow_stage(options, policy, recorder, [])
        monkeypatch.setattr(record_command, "MOST_FAILURES", 1)
        with pytest.raises(HotstartError, match="1 episodes in a row have failed"):
            record_command.follow_stage(replace(options, episodes=3), policy, recorder, [])
    assert arm.seeds == [7, 8, 9, 10, 9]
    store = Store.open(options.out)
    assert store.lengths.tolist() == [4, 4]
    assert store.array("success").tolist() == [False, False, False, True] * 2
    with pytest.raises(ConfigError, match="it needs stage="):
        record_command.check(Record(out=tmp_path, robot=Part("so101"), ask=False))
