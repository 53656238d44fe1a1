"""The controller process: it moves an arm smoothly, and stops it whoever dies or falls silent."""

import functools
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import hotstart
import numpy as np
import pytest
from hotstart.control import LoopSettings, RealClock, run
from hotstart.planners import ThreadedPlanner
from hotstart.real_robot import servo_client
from hotstart.real_robot.driver import DriverError
from hotstart.real_robot.safety import SafetyError, SafetyOptions, Workspace
from hotstart.real_robot.servo import DriverFactory, ServoOptions
from hotstart.real_robot.servo_robot import ServoRobot
from hotstart.real_robot.shared_memory import find_folder
from hotstart.real_robot.watchdogs import Thresholds
from hotstart.spec import (
    ConfigError,
    Horizon,
    ObsKey,
    ObsSpec,
    PlanError,
    Planned,
    StopError,
    TimedActions,
)

RATE_HZ = 20.0
FAST = ServoOptions(soft_start_s=0.0)
HERE = Path(__file__).parent
sys.path.append(str(HERE))  # the controller's process finds the device there, too
servo_device = importlib.import_module("servo_device")
PATHS = os.pathsep.join([str(Path(hotstart.__file__).parents[1]), str(HERE)])


def make_robot(trace="", options=FAST, cameras=None, trained=None, **device) -> ServoRobot:
    factory = functools.partial(servo_device.Arm, trace=str(trace), **device)
    return ServoRobot(factory, RATE_HZ, cameras, options, trained)


def make_plan(speed: float, start: float, begin_s: float, steps: int = 30) -> TimedActions:
    """A steady motion of all joints from `start`, beginning at a time."""
    times_s = begin_s + np.arange(steps) / RATE_HZ
    actions = np.repeat((start + speed * (times_s - begin_s))[:, None], 3, axis=1)
    return TimedActions(times_s, actions)


def move(robot: ServoRobot, speed: float = 1.5, seconds: float = 0.3) -> None:
    """Start, hand one plan over, and let the arm move."""
    robot.reset([0])
    hand_over(robot, speed)
    time.sleep(seconds)


def hand_over(robot: ServoRobot, speed: float = 1.5) -> None:
    start = robot.hold_position()
    plan = make_plan(speed, float(start[0, 0]), time.monotonic() + 0.01)
    robot.act(plan.actions[:1], None, [plan])


def read_trace(path: Path) -> list[tuple[float, str, np.ndarray, np.ndarray]]:
    """(time, what, position (3,), target (3,)) of every call of the driver."""
    rows = []
    for line in path.read_text().splitlines():
        time_s, what, *values = line.split()
        numbers = np.array(values, float)
        rows.append((float(time_s), what, numbers[:3], numbers[3:]))
    return rows


def find_calls(path: Path, what: str) -> list[float]:
    return [row[0] for row in read_trace(path) if row[1] == what]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(holds, seconds: float = 3.0) -> None:
    until_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until_s, "it has not come"
        time.sleep(0.005)


def find_blocks(pid: int) -> list[Path]:
    return list(find_folder().glob(f"hotstart-{pid}-*"))


class Wave:
    """A policy that plans a wave of the joints by the time of what it sees."""

    def __init__(self, robot: ServoRobot) -> None:
        self.horizon = Horizon(observed=1, planned=12, executed=8)
        self.obs_spec = ObsSpec({"joints": ObsKey((3,))})
        self.action_spec = robot.action_spec
        self.rate_hz: float | None = RATE_HZ
        self.began_s = time.monotonic()

    def initial_state(self, seeds):
        return None

    def reset_rows(self, state, rows, seeds):
        raise AssertionError("the loop has no business resetting rows within an episode")

    def observe(self, state, observation, executed=None, new=None):
        return time.monotonic() - self.began_s

    def plan(self, state, rows, executed, frozen=None):
        time.sleep(0.06)
        times_s = state + np.arange(12) / RATE_HZ
        wave = 0.25 * (1 - np.cos(2 * np.pi * 0.7 * times_s))
        actions = np.repeat(wave[None, :, None], 3, axis=2)
        return Planned(rows, actions, state, np.ones(len(rows), int))

    def adopt(self, state, planned):
        return state


def test_nothing_of_it_loads_torch():
    names = "servo servo_client servo_robot shared_memory interpolation safety watchdogs"
    code = f"""
    import importlib, sys
    for name in "{names}".split():
        importlib.import_module("hotstart.real_robot." + name)
    assert "torch" not in sys.modules
    """
    environment = {**os.environ, "PYTHONPATH": PATHS}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)


def test_the_control_loop_moves_an_arm_smoothly_by_overlapping_plans(tmp_path):
    trace = tmp_path / "trace"
    with make_robot(trace) as robot:
        limits, pid = robot.limits, robot.pid
        policy = Wave(robot)
        settings = LoopSettings(max_ticks=30, replan_at=8)
        (log,) = run(robot, policy, ThreadedPlanner(policy, 0.06), RealClock(), [0], settings)
    assert log.starved_ticks < 6
    rows = [row for row in read_trace(trace) if row[1] == "command"]
    targets = np.array([row[3] for row in rows])
    np.testing.assert_allclose(targets[0], 0.0, atol=1e-6)  # the first target is what is measured
    velocity = np.diff(targets, axis=0) * robot.servo_hz
    acceleration = np.diff(velocity, axis=0) * robot.servo_hz
    jerk = np.diff(acceleration, axis=0) * robot.servo_hz
    assert np.ptp(targets[:, 0]) > 0.3
    assert (np.abs(velocity) <= limits.velocity * 1.001).all()
    assert (np.abs(acceleration) <= limits.acceleration * 1.05).all()  # the trace is rounded
    assert (np.abs(jerk) <= limits.jerk * 1.05 + 20).all()
    report = robot.report()
    assert report["late_actions"] <= report["plans"]  # of a new plan that came just then
    assert report["clamps"] == {}
    assert report["plans"] >= 4
    assert report["periods"]["p50_ms"] == pytest.approx(8.0, abs=1.0)
    assert set(report["real_time"]) == {"scheduling", "memory"}
    assert [row[1] for row in read_trace(trace)][-2:] == ["stop", "close"]
    assert not is_alive(pid)
    assert find_blocks(pid) == []


def test_a_start_is_soft_and_the_full_speed_comes_later(tmp_path):
    options = ServoOptions(soft_start_s=0.4)
    with make_robot(tmp_path / "trace", options, begin=-1.0) as robot:
        move(robot, 2.0, seconds=0.7)
    rows = [row for row in read_trace(tmp_path / "trace") if row[1] == "command"]
    targets = np.array([row[3][0] for row in rows])
    assert targets[0] == -1.0  # where it is measured
    speeds = np.diff(targets) * 125
    planned = int(np.argmax(speeds > 0.01))
    assert speeds[: planned + 15].max() < 1.25  # of 2.5, after 0.12 s of 0.4 s
    assert speeds.max() > 1.9


def find_last_speed(trace: Path) -> float:
    """Of the first joint's target before the first stop [rad/s]."""
    targets = []
    for _, what, _, target in read_trace(trace):
        if what == "stop":
            break
        if what == "command":
            targets.append(target[0])
    return (targets[-1] - targets[-2]) * 125


def test_a_stop_slows_down_first_unless_an_error_is_under_way(tmp_path):
    """A blind camera or a signal, which the control loop raises, does not wait for that."""
    with make_robot(tmp_path / "calm") as robot:
        move(robot, 2.0)
        robot.stop()
    assert abs(find_last_speed(tmp_path / "calm")) < 0.1
    with make_robot(tmp_path / "hurried") as robot:
        move(robot, 2.0)
        try:
            raise SystemExit
        except SystemExit:
            robot.stop()
    assert find_last_speed(tmp_path / "hurried") > 1.5


def test_kill_9_of_the_policy_process_lets_the_controller_stop_the_arm(tmp_path):
    trace = tmp_path / "trace"
    code = """
    import functools, sys, time
    import test_servo
    robot = test_servo.make_robot(sys.argv[1])
    test_servo.move(robot, 2.0)
    print(robot.pid, flush=True)
    time.sleep(30)
    """
    environment = {**os.environ, "PYTHONPATH": PATHS}
    policy = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(trace)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert policy.stdout is not None
    pid = int(policy.stdout.readline())
    policy.kill()
    killed_s = time.monotonic()
    policy.wait()
    died_s = time.monotonic()  # on a busy machine a process takes a while to die
    policy.communicate()
    wait_for(lambda: len(find_calls(trace, "stop")) > 0)
    stopped_s = find_calls(trace, "stop")[0]
    assert killed_s < stopped_s < died_s + 0.1
    assert find_last_speed(trace) > 1.5  # the driver stops it from full speed, at once
    wait_for(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not is_alive(pid))
    assert find_blocks(pid) == []


def test_kill_9_of_the_controller_is_noticed_at_the_next_turn():
    robot = make_robot()
    move(robot)
    os.kill(robot.pid, signal.SIGKILL)
    wait_for(lambda: not robot._client.is_alive())
    words = r"status -9\); the arm's own watchdog stops it within 0.1 s"
    plan = make_plan(1.0, 0.0, time.monotonic())
    with pytest.raises(DriverError, match=words):
        robot.observe()
    with pytest.raises(DriverError, match=words):
        robot.act(plan.actions[:1], None, [plan])
    with pytest.raises(DriverError, match=words):
        robot.stop()
    assert find_blocks(robot.pid) == []
    robot.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_arm_before_the_controller_ends(number, tmp_path):
    robot = make_robot(tmp_path / "trace", stop_failures=2)
    move(robot, seconds=0.1)
    os.kill(robot.pid, number)
    wait_for(lambda: not robot._client.is_alive())
    assert len(find_calls(tmp_path / "trace", "stop")) == 3  # it was tried again
    with pytest.raises(DriverError, match=rf"status {128 + number}\); it has stopped the arm"):
        robot.observe()
    robot.stop()  # it rests: nothing to say
    robot.close()
    assert robot.report()["warnings"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("read", "the cable is out"),
        ("command", "the target was lost"),
        ("bug", "ZeroDivisionError: a bug of the driver"),
        ("fault", "test arm: protective stop"),
        ("stale", r"told nothing new for 0\.5. s"),
    ],
)
def test_a_fault_of_the_driver_stops_the_arm_and_is_raised_until_it_is_cleared(
    fault, words, tmp_path
):
    with make_robot(tmp_path / "trace", fault=fault, fault_s=0.1) as robot:
        move(robot)
        wait_for(lambda: int(robot._client.look()["mode"]) == 5)
        for call in (robot.observe, lambda: hand_over(robot), lambda: robot.reset([0])):
            with pytest.raises(DriverError, match=words):
                call()
        calls = [row[1] for row in read_trace(tmp_path / "trace")]
        assert calls[-1] == "stop"
        robot.recover()
        move(robot, seconds=0.1)
        robot.observe()


def test_a_controller_that_hangs_is_noticed_and_ended(monkeypatch):
    monkeypatch.setattr(servo_client, "ANSWER_S", 0.2)
    monkeypatch.setattr(servo_client, "END_S", 0.2)
    robot = make_robot(fault="hang", fault_s=0.05)
    move(robot, seconds=0.8)
    with pytest.raises(DriverError, match="has written nothing for"):
        robot.observe()
    robot.close()
    assert not is_alive(robot.pid)


def test_a_controller_that_exits_is_noticed():
    with make_robot(fault="exit", fault_s=0.05) as robot:
        move(robot)
        with pytest.raises(DriverError, match="status 7"):
            robot.observe()


def test_an_arm_that_cannot_be_stopped_is_said(tmp_path):
    with make_robot(tmp_path / "trace", stop_failures=99) as robot:
        move(robot, seconds=0.1)
        robot.stop()
        with pytest.raises(DriverError, match=r"could not be stopped.*cut its power"):
            robot.observe()


def test_a_silent_policy_lets_the_arm_rest_and_then_stop(tmp_path):
    thresholds = Thresholds(policy_slow_s=0.15, policy_stop_s=0.5)
    options = ServoOptions(thresholds=thresholds, soft_start_s=0.0)
    with make_robot(tmp_path / "trace", options) as robot:
        move(robot, 1.0, seconds=0.8)
        with pytest.raises(DriverError, match=r"the policy has been silent for 0\.5 s"):
            robot.observe()
    rows = [row for row in read_trace(tmp_path / "trace") if row[1] == "command"]
    speeds = np.diff([row[3][0] for row in rows]) * 125
    assert speeds.max() > 0.9
    np.testing.assert_allclose(speeds[-10:], 0, atol=1e-3)
    assert rows[-1][3][0] < 0.4  # the plan went on to 1.5


def test_a_word_in_time_lets_the_arm_go_on_after_it_had_slowed_down():
    options = ServoOptions(Thresholds(policy_slow_s=0.15), soft_start_s=0.0)
    with make_robot(options=options) as robot:
        move(robot, 1.0, seconds=0.4)
        assert robot._client.look()["mode"] == 3
        before = robot.hold_position()[0, 0]
        hand_over(robot, 1.0)
        time.sleep(0.1)
        assert robot.hold_position()[0, 0] > before + 0.02


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ({"refuse": "test arm: no power"}, "test arm: no power"),
        ({"servo_hz": "many"}, "the controller process failed: TypeError"),
    ],
)
def test_what_a_driver_raises_at_the_start_is_raised_here(device, words):
    with pytest.raises(DriverError, match=words):
        make_robot(**device)


def test_factories_must_be_known_to_another_process():
    with pytest.raises(ConfigError, match="cannot be sent to another process"):
        ServoRobot(lambda: servo_device.Arm(), RATE_HZ)
    with pytest.raises(ConfigError, match="unknown driver"):
        ServoRobot(DriverFactory("no such arm"), RATE_HZ)
    with pytest.raises(ConfigError, match="rate_hz is 0"):
        ServoRobot(servo_device.Arm, 0.0)


def test_a_workspace_needs_to_know_where_the_tool_is():
    options = ServoOptions(safety=SafetyOptions(workspace=Workspace(upper=(1, 1, 1))))
    with pytest.raises(ConfigError, match="give the safety options a tool_of"):
        make_robot(options=options)


class StillCamera:
    """Shows the same picture, made so long ago."""

    name, shape, fps = "wrist", (4, 5, 3), 30.0
    age_s = 0.06

    def start(self) -> None: ...

    def close(self) -> None: ...

    def read(self):
        return np.full(self.shape, 7, np.uint8), time.monotonic() - self.age_s


@pytest.fixture(scope="module")
def shared():
    """A robot with a camera for the tests that leave it well."""
    trained = {"joints": (np.full(3, -0.5), np.full(3, 0.5))}
    with make_robot(cameras={"wrist": StillCamera()}, trained=trained) as robot:
        yield robot


def test_a_picture_is_paired_with_the_joints_of_its_time(shared):
    move(shared, 1.0, seconds=0.4)
    seen = shared.observe()
    assert list(seen.observation) == ["joints", "turns", "wrist"]
    assert shared.obs_spec.keys["wrist"] == ObsKey((4, 5, 3), "uint8", "image")
    assert seen.observation["wrist"].shape == (1, 4, 5, 3)
    made_s = {name: float(value[0]) for name, value in seen.made_s.items()}
    assert len(set(made_s.values())) == 1
    assert 0.05 < time.monotonic() - made_s["joints"] < 0.1
    newest = shared._client.look()
    assert newest["positions"][0] - seen.observation["joints"][0, 0] == pytest.approx(
        newest["made_s"] - made_s["joints"], abs=0.02
    )  # at 1 rad/s
    assert seen.observation["turns"].dtype == np.int64
    shared.stop()


def test_a_stale_picture_is_refused(shared, monkeypatch):
    monkeypatch.setattr(StillCamera, "age_s", 0.7)
    with pytest.raises(DriverError, match=r"camera 'wrist' is 0.70 s old"):
        shared.observe()


def test_after_a_stop_a_reset_goes_on_and_plans_of_before_do_not(shared):
    move(shared, 0.5, seconds=0.1)
    shared.stop()
    rest = shared.hold_position()
    hand_over(shared)
    time.sleep(0.1)
    np.testing.assert_allclose(shared.hold_position(), rest, atol=1e-3)
    move(shared, 0.5, seconds=0.3)
    assert shared.hold_position()[0, 0] > rest[0, 0] + 0.05
    shared.stop()


def test_an_action_of_no_plan_is_reached_a_period_later_also_where_its_time_has_passed(shared):
    shared.reset([0])
    goal = shared.hold_position() + 0.02
    for _ in range(8):
        late = TimedActions(np.array([time.monotonic()]), goal)
        feedback = shared.act(goal, None, [late])
        time.sleep(1 / RATE_HZ)
    np.testing.assert_allclose(shared.hold_position(), goal, atol=2e-3)
    np.testing.assert_allclose(feedback.applied, goal)
    far = np.array([[9.0, 0.0, -1.0]])
    applied = shared.act(far, None, [TimedActions(np.array([time.monotonic() + 9]), far)]).applied
    np.testing.assert_allclose(applied, [[3.0, 0.0, 0.0]])
    shared.stop()
    with pytest.raises(PlanError, match="follows timed actions"):
        shared.act(goal)


def test_a_first_action_far_from_the_arm_is_refused(shared):
    shared.reset([0])
    plan = make_plan(0.0, float(shared.hold_position()[0, 0]) + 0.6, time.monotonic() + 0.1)
    shared.act(plan.actions[:1], None, [plan])
    wait_for(lambda: int(shared._client.look()["mode"]) == 5)
    with pytest.raises(DriverError, match="the first action wants 'shoulder' at"):
        shared.observe()
    shared.recover()


def test_joints_far_from_what_the_policy_was_trained_on_are_refused():
    trained = {"joints": (np.full(3, -0.5), np.full(3, 0.5))}
    with make_robot(begin=2.0, trained=trained) as robot:
        robot.reset([0])
        with pytest.raises(SafetyError, match=r"'shoulder' is 2 rad; .* trained on -0.5 to 0.5"):
            robot.observe()


def test_a_run_that_fails_stops_the_arm(tmp_path):
    """The loop's own guard: the arm is stopped, and what went wrong is raised."""
    with make_robot(tmp_path / "trace", fault="read", fault_s=0.2) as robot:
        policy = Wave(robot)
        settings = LoopSettings(max_ticks=60, replan_at=8)
        with pytest.raises((DriverError, StopError), match="the cable is out"):
            run(robot, policy, ThreadedPlanner(policy, 0.06), RealClock(), [0], settings)


def test_an_action_is_reached_when_its_control_period_ends(monkeypatch):
    """As in simulation, where a turn lasts a period; otherwise the arm is a period ahead."""
    with make_robot() as robot:
        robot.reset([0])
        handed = []
        put = robot._client.put

        def listen(order, plan=None):
            handed.append(plan)
            return put(order, plan)

        monkeypatch.setattr(robot._client, "put", listen)
        plan = make_plan(1.0, 0.0, time.monotonic() + 0.05)
        robot.act(plan.actions[:1], None, [plan])
        monkeypatch.undo()
    np.testing.assert_allclose(handed[0].times_s, plan.times_s + 1.0 / RATE_HZ)
    np.testing.assert_array_equal(handed[0].actions, plan.actions)


def test_a_late_arm_gets_its_targets_earlier(monkeypatch):
    factory = functools.partial(servo_device.Arm)
    with ServoRobot(factory, RATE_HZ, options=FAST, latency_s=0.04) as robot:
        robot.reset([0])
        handed = []
        monkeypatch.setattr(robot._client, "put", lambda order, plan=None: handed.append(plan))
        plan = make_plan(1.0, 0.0, time.monotonic() + 0.05)
        robot.act(plan.actions[:1], None, [plan])
        monkeypatch.undo()
    np.testing.assert_allclose(handed[0].times_s, plan.times_s + 1.0 / RATE_HZ - 0.04)
    with pytest.raises(ConfigError, match="latency_s is -1"):
        ServoRobot(factory, RATE_HZ, latency_s=-1.0)
