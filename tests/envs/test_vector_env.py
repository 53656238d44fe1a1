import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotstart.envs import workers
from hotstart.envs.registry import make
from hotstart.envs.simulated_robot import SimulatedRobot
from hotstart.envs.workers import SilentWorkerError, WorkerError
from hotstart.spec import ConfigError

# A task without a simulator, added the way any package adds one: an action of 1 to 4 breaks it in a
# way of its own.
TASK = """
import os, sys, time
import numpy as np
from hotstart.envs.base import TaskEnv
from hotstart.spec import ActionSpec, ObsKey, ObsSpec

class Walk(TaskEnv):
    def __init__(self, max_steps: int = 6):
        keys = {"place": ObsKey((2,), "float64"), "facts": ObsKey((3,), "float64")}
        super().__init__(obs_spec=ObsSpec(keys), action_spec=ActionSpec.plain(1), action_low=-9,
                         action_high=9, rate_hz=5, max_steps=max_steps)

    def _begin(self, options):
        self.place = self.np_random.standard_normal(2)

    def _advance(self, action, substeps):
        if action[0] == 1: raise KeyError("no such wall")
        if action[0] == 2: os._exit(7)
        if action[0] == 3: time.sleep(600)
        if action[0] == 4: raise FileNotFoundError(2, "gone", "map.png")
        self.place = self.place + action[0] * self.np_random.standard_normal(2)

    def _observe(self):
        one_thread = os.environ.get("OMP_NUM_THREADS") == "1"
        facts = np.array(["torch" in sys.modules, one_thread, os.getpid()], float)
        return {"place": self.place.copy(), "facts": facts}

    def _judge(self):
        return float(np.exp(-abs(self.place[0]))), bool(self.place[1] > 2)

    def render(self):
        return np.full((4, 4, 3), self.steps, np.uint8)
"""


@pytest.fixture
def walk(plugin_package):
    return plugin_package("walk_task", TASK, {"hotstart.envs": ["walk = walk_task:Walk"]})


def trajectory(task, workers, rows, seeds, actions):
    """Every number that a robot shows over two episodes."""
    seen = []
    with SimulatedRobot(task, {}, rows=rows, workers=workers) as robot:
        for offset in (0, 50):
            robot.reset([seed + offset for seed in seeds])
            seen += [value for name, value in robot.observe().items() if name != "facts"]
            for action in actions:
                feedback = robot.act(action)
                seen += [value for name, value in robot.observe().items() if name != "facts"]
                seen += [feedback.done, feedback.success, feedback.score]
    return seen


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_workers_change_nothing(walk, workers):
    actions = -np.random.default_rng(0).uniform(0, 3, (8, 5, 1))
    here = trajectory("walk", 0, 5, [1, 2, 3, 4], actions)
    assert_same(here, trajectory("walk", workers, 5, [1, 2, 3, 4], actions))
    assert here[-3].all()


@pytest.mark.parametrize(("task", "needs"), [("pusht", "pymunk"), ("lift", "robosuite")])
def test_workers_change_nothing_in_a_simulator(task, needs):
    pytest.importorskip(needs)
    low, high = (0, 512) if task == "pusht" else (-1, 1)
    actions = np.random.default_rng(0).uniform(low, high, (6, 3, 2 if task == "pusht" else 7))
    here = trajectory(task, 0, 3, [1, 2, 3], actions)
    assert_same(here, trajectory(task, 2, 3, [1, 2, 3], actions))


def test_rows_are_those_of_the_plain_environment(walk):
    env = make("walk")
    with SimulatedRobot("walk", rows=2, workers=1) as robot:
        assert (robot.rate_hz, robot.max_steps, robot.action_spec.width) == (5.0, 6, 1)
        robot.reset([8, 9])
        place, _ = env.reset(seed=9)
        for _ in range(6):
            assert np.array_equal(robot.observe()["place"][1], place["place"])
            feedback = robot.act(np.full((2, 1), -0.5))
            place, _, terminated, truncated, info = env.step([-0.5])
            assert feedback.done[1] == (terminated or truncated)
            assert (feedback.success[1], feedback.score[1]) == (info["success"], info["score"])
            if terminated or truncated:
                break


def test_done_rows_stay_and_idle_rows_are_done_from_the_start(walk):
    with SimulatedRobot("walk", {"max_steps": 2}, rows=3, workers=2) as robot:
        robot.reset([1, 2])
        assert np.array_equal(robot.observe()["place"][2], [0, 0])
        feedback = robot.act(
            np.array([[0.0], [0.0], [np.nan]])
        )  # the idle row's action is not looked at
        assert feedback.done.tolist() == [False, False, True]
        assert (feedback.success[2], feedback.score[2]) == (False, 0)
        last = robot.act(np.zeros((3, 1)))
        before = robot.observe()
        assert last.done.all()
        after = robot.act(np.full((3, 1), 2.0))  # would end the worker if a row were stepped
        assert_same(
            [last.score, last.success, *before.values()],
            [after.score, after.success, *robot.observe().values()],
        )
        robot.reset([1, 2, 3])
        assert not robot.act(np.zeros((3, 1))).done.any()


def test_workers_are_light(walk):
    with SimulatedRobot("walk", rows=4, workers=2) as robot:
        robot.reset([1, 2, 3, 4])
        torch_loaded, one_thread, process = robot.observe()["facts"].T
        assert not torch_loaded.any()
        assert one_thread.all()
        assert len({*process, os.getpid()}) == 3
        os.kill(
            int(process[0]), signal.SIGINT
        )  # Ctrl-C reaches the whole group; only the parent acts on it
        robot.act(np.zeros((4, 1)))


def test_dead_worker_is_named(walk):
    with SimulatedRobot("walk", rows=4, workers=2) as robot:
        robot.reset([1, 2, 3, 4])
        with pytest.raises(WorkerError, match=r"rows 1, 3 died with exit code 7"):
            robot.act(np.array([[0.0], [0.0], [0.0], [2.0]]))
        with pytest.raises(WorkerError, match=r"rows 1, 3"):
            robot.reset([1, 2, 3, 4])


def test_exceptions_come_through(walk):
    with SimulatedRobot("walk", rows=2, workers=2) as robot:
        robot.reset([1, 2])
        with pytest.raises(
            WorkerError, match=r"(?s)rows 1 failed with KeyError.*Traceback.*in _advance"
        ):
            robot.act(np.array([[0.0], [1.0]]))
        with pytest.raises(WorkerError, match=r"FileNotFoundError.*map\.png"):
            robot.act(np.array([[4.0], [0.0]]))
        with pytest.raises(ConfigError, match="finite"):
            robot.act(np.array([[np.nan], [0.0]]))
        robot.reset([1, 2])  # an error spoils the episode, not the robot
        assert not robot.act(np.zeros((2, 1))).done.any()
    for count in (0, 1):
        with pytest.raises(ConfigError, match="max_steps"):
            SimulatedRobot("walk", {"max_step": 2}, workers=count)


def test_an_answer_left_over_from_an_interruption_is_dropped(walk):
    with SimulatedRobot("walk", rows=1, workers=1) as robot:
        robot.reset([1])
        robot._workers[0].submit(
            "act", np.full((1, 1), -2.0)
        )  # as if Ctrl-C came before the answer
        robot.reset([2])
        place = robot.observe()["place"]
    with SimulatedRobot("walk", rows=1) as fresh:
        fresh.reset([2])
        assert np.array_equal(fresh.observe()["place"], place)


def test_close_does_not_wait_for_a_stuck_worker(walk, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE_S", 0.3)
    robot = SimulatedRobot("walk", rows=1, workers=1)
    robot.reset([1])
    process = int(robot.observe()["facts"][0, 2])
    robot._workers[0].submit("act", np.full((1, 1), 3.0))
    begin = time.monotonic()
    robot.close()
    robot.close()
    assert time.monotonic() - begin < 5
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    with pytest.raises(RuntimeError, match="closed"):
        robot.reset([1])


def gone(process: int, within_s: float = 10.0) -> bool:
    """Whether a process has ended, or does so in time."""
    status = Path(f"/proc/{process}/stat")
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if status.read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
@pytest.mark.parametrize("stuck", [False, True])
def test_workers_end_with_a_killed_parent(stuck, walk):
    program = (
        "import os; import numpy as np; from hotstart.envs.simulated_robot import SimulatedRobot\n"
        "robot = SimulatedRobot('walk', workers=1)\n"
        "robot.reset([1]); print(int(robot.observe()['facts'][0, 2]), flush=True)\n"
        f"{stuck} and robot._crews[0].submit('act', np.full((1, 1), 3.0), np.array([1]))\n"
        "os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    out = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, timeout=60
    )
    assert gone(int(out.stdout))


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
def test_a_stopped_worker_is_named_and_ended(walk):
    with SimulatedRobot("walk", rows=2, workers=2, answer_s=10.0) as robot:
        robot.reset([1, 2])
        process = int(robot.observe()["facts"][1, 2])
        robot._workers[1].allow(0.3)
        os.kill(process, signal.SIGSTOP)
        began = time.monotonic()
        said = (
            rf"rows 1 \(process {process}\) has not answered for 0.3 s: "
            "a signal or a debugger has stopped it"
        )
        with pytest.raises(SilentWorkerError, match=said):
            robot.act(np.zeros((2, 1)))
        assert time.monotonic() - began < 5
    assert gone(process)


def test_an_environment_that_is_never_built_is_named(walk, monkeypatch):
    monkeypatch.setattr(workers, "BUILD_S", 0.02)
    with pytest.raises(SilentWorkerError, match=r"rows 0 .* has not answered for 0.02 s"):
        SimulatedRobot("walk", workers=1)


def test_a_hung_simulation_is_named(walk):
    with SimulatedRobot("walk", rows=2, workers=2, answer_s=10.0) as robot:
        robot.reset([1, 2])
        robot._workers[0].allow(0.3)
        with pytest.raises(
            SilentWorkerError, match=r"rows 0 .* has not answered for 0.3 s: its simulation hangs"
        ):
            robot.act(np.array([[3.0], [0.0]]))
    with pytest.raises(ConfigError, match="answer_s is 0"):
        SimulatedRobot("walk", answer_s=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_frames_of_recorded_rows(walk, workers):
    with SimulatedRobot(
        "walk", {"max_steps": 5}, rows=3, workers=workers, record_rows=[2], frame_every=2
    ) as robot:
        robot.reset([1, 2, 3])
        for _ in range(7):
            robot.act(np.zeros((3, 1)))
        assert [int(frame[0, 0, 0]) for frame in robot.frames(2)] == [
            0,
            2,
            4,
            5,
        ]  # every second tick, and the last
        with pytest.raises(ConfigError, match="record_rows"):
            robot.frames(1)
        robot.reset([1, 2, 3])
        assert len(robot.frames(2)) == 1


def test_wrong_counts_are_refused(walk):
    wrongs: list[dict[str, Any]] = [
        {"rows": 0},
        {"workers": -1},
        {"frame_every": 0},
        {"record_rows": [1]},
    ]
    for wrong in wrongs:
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SimulatedRobot("walk", **wrong)
    with SimulatedRobot("walk", rows=2) as robot:
        with pytest.raises(ConfigError, match="3 seeds for 2 rows"):
            robot.reset([1, 2, 3])
        robot.reset([1, 2])
        with pytest.raises(ConfigError, match=r"\(2, 1\)"):
            robot.act(np.zeros((1, 1)))
