"""A tiny data set and tiny models, and a robot and a policy that do what a test can foresee.

torch is imported where it is needed, so that tests without it start quickly.
"""

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hotstart.control import LoopSettings, VirtualClock, run
from hotstart.datasets.arrays import Arrays
from hotstart.planners import DelayedPlanner, ImmediatePlanner, constant_latency
from hotstart.spec import ActionDim, ActionSpec, Feedback, Horizon, ObsKey, ObsSpec, Planned, Policy

if hasattr(signal, "SIGHUP"):
    # Under nohup it is ignored, here and in every program that a test starts; the tests are of what
    # happens otherwise.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what runs in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)

HORIZON = Horizon(observed=2, planned=12, executed=4)
DENOISERS: dict[str, dict[str, Any]] = {
    "unet": {
        "_target_": "hotstart.policy.denoisers.unet.ConditionalUnet",
        "channels": [16, 32],
        "groups": 4,
        "level_width": 16,
    },
    "transformer": {
        "_target_": "hotstart.policy.denoisers.transformer.DiffusionTransformer",
        "embed": 32,
        "layers": 2,
        "heads": 2,
        "level_width": 16,
    },
    "mode": {
        "_target_": "hotstart.policy.denoisers.mode.ModeTransformer",
        "embed": 32,
        "layers": 2,
        "heads": 2,
        "level_width": 16,
    },
}


def make_dataset(seed: int = 0, episodes: int = 8, steps: int = 14) -> Arrays:
    """Episodes in which a state (2,) stands still and the right action is `right_action` of it,
    at every step.
    """
    rng = np.random.default_rng(seed)
    states = rng.uniform(-3, 3, (episodes, 1, 2)).astype(np.float32).repeat(steps, 1)
    return Arrays([{"state": state, "action": right_action(state)} for state in states], fps=10.0)


def right_action(state: np.ndarray) -> np.ndarray:
    """(..., 2) -> (..., 2), in units far from [-1, 1]."""
    return np.stack((200 + 30 * state[..., 0], -0.1 * state[..., 1]), -1).astype(np.float32)


def make_config(
    kind: str = "unet", dataset: Any = None, horizon: Horizon = HORIZON, **changes: Any
) -> Any:
    """The configuration of a tiny model; `changes` replace its fields."""
    from hotstart.policy.model import ModelConfig

    dataset = dataset or make_dataset()
    fields = {
        "encoder": {"_target_": "hotstart.policy.encoders.state.StateEncoder", "token_width": 16},
        "denoiser": DENOISERS[kind],
        "schedule": {"_target_": "hotstart.policy.diffusion.schedule.VPCosine"},
        "obs_spec": dataset.obs_spec,
        "action_spec": dataset.action_spec,
        "horizon": horizon,
    }
    return ModelConfig(**{**fields, **changes})


def make_model(kind: str = "unet", seed: int = 0, dataset: Any = None, **changes: Any) -> Any:
    """A tiny untrained model with the data set's statistics, in evaluation mode."""
    import torch
    from hotstart.datasets.statistics import dataset_statistics
    from hotstart.policy.model import PolicyModel
    from hotstart.policy.normalizer import Normalizer, collect_shapes

    # Nets this small gain nothing from threads, and those of two test workers wait for each other.
    torch.set_num_threads(1)
    dataset = dataset or make_dataset()
    config = make_config(kind, dataset, **changes)
    normalizer = Normalizer.fit(
        dataset_statistics(dataset), collect_shapes(config.obs_spec, config.action_spec)
    )
    torch.manual_seed(seed)
    return PolicyModel(config, normalizer).eval().requires_grad_(False)


RATE_HZ = 10.0
ACTION_SPEC = ActionSpec(
    (
        ActionDim("x"),
        ActionDim("y"),
        ActionDim("vx", absolute=False),
        ActionDim("grip", "", "discrete", False),
    )
)


def make_feedback(done, success, score, reports_success=None) -> Feedback:
    """What a robot reports whose episodes end with success or failure, and which knows no
    reward; (B,) each.
    """
    done, score = np.asarray(done), np.asarray(score, float)
    return Feedback(
        terminated=done,
        truncated=np.zeros_like(done),
        reward=np.zeros_like(score),
        success=np.asarray(success),
        score=score,
        reports_success=reports_success,
    )


class ScriptedRobot:
    """Observes the number of its ticks; a row is done after `ends[row]` of them and succeeds
    there.
    """

    def __init__(self, rows: int, ends: Sequence[int] = (), fails_at: int | None = None) -> None:
        self.rows, self.action_spec, self.substeps = rows, ACTION_SPEC, 1
        self.rate_hz = RATE_HZ
        self.servo_hz: float | None = None
        self.obs_spec = ObsSpec({"tick": ObsKey((1,), "float64")})
        self.ends, self.fails_at = np.array([*ends, *[10**9] * (rows - len(ends))]), fails_at
        self.commands: list[np.ndarray] = []
        self.calls: list[str] = []

    def reset(self, seeds):
        self.calls.append("reset")
        self.seeds, self.tick = list(seeds), 0

    def reset_rows(self, rows, seeds):
        raise AssertionError("the loop has no business resetting rows within an episode")

    def observe(self):
        return {"tick": np.full((self.rows, 1), float(self.tick))}

    def hold_position(self):
        return np.zeros((self.rows, self.action_spec.width))

    def act(self, actions, substeps=None, timed=None):
        if self.tick == self.fails_at:
            raise RuntimeError("the cable came off")
        self.commands.append(actions.copy())
        self.tick += 1
        done = self.tick >= self.ends
        return make_feedback(done, done, np.full(self.rows, 0.1 * self.tick))

    def stop(self):
        self.calls.append("stop")


class ScriptedPolicy:
    """Its action for tick n is n (plus 1000 times the number of the plan in the third number);
    the state is all it has.
    """

    def __init__(self, executed: int = 4, nfe: int = 3) -> None:
        self.horizon = Horizon(observed=1, planned=2 * executed, executed=executed)
        self.obs_spec, self.action_spec = ObsSpec({"tick": ObsKey((1,), "float64")}), ACTION_SPEC
        self.rate_hz: float | None = None
        self.nfe = nfe
        self.asked: list[tuple[int, list[int], list[int]]] = []  # (tick seen, rows, executed)

    def initial_state(self, seeds):
        return {"tick": np.zeros(len(seeds)), "plans": np.zeros(len(seeds))}

    def reset_rows(self, state, rows, seeds):
        raise AssertionError("the loop has no business resetting rows within an episode")

    def observe(self, state, observation, executed=None, new=None):
        return {**state, "tick": observation["tick"][:, 0]}

    def plan(self, state, rows, executed, frozen=None):
        now = state["tick"][rows]
        self.asked.append((int(now[0]), rows.tolist(), executed.tolist()))
        ticks = now[:, None] + np.arange(self.horizon.executed)  # (R, Ta)
        actions = np.stack(
            (
                ticks,
                -ticks,
                np.broadcast_to(1000 * state["plans"][rows, None], ticks.shape),
                0 * ticks + 1,
            ),
            -1,
        )
        made = {"tick": now, "plans": state["plans"][rows] + 1}
        return Planned(rows, actions, made, np.full(len(rows), self.nfe))

    def adopt(self, state, planned):
        plans = state["plans"].copy()
        plans[planned.rows] = planned.plan["plans"]
        return {**state, "plans": plans}


def late_planner(policy: Policy, latency_s: float) -> DelayedPlanner:
    """Answers `latency_s` after it was asked, and says so."""
    return DelayedPlanner(policy, constant_latency(latency_s), latency_s)


def run_episode(
    ticks: int,
    latency: int = 0,
    executed: int = 4,
    replan_at: int = 0,
    rows: int = 1,
    ends: Sequence[int] = (),
):
    """One run with a planner that is `latency` ticks late."""
    robot, policy = ScriptedRobot(rows, ends), ScriptedPolicy(executed)
    planner = late_planner(policy, latency / RATE_HZ) if latency else ImmediatePlanner(policy)
    logs = run(
        robot, policy, planner, VirtualClock(), list(range(rows)), LoopSettings(ticks, replan_at)
    )
    return robot, policy, logs


@pytest.fixture(scope="session")
def scripted() -> Any:
    """A robot, a policy and a late planner that do what a test can foresee, and one episode
    with them.
    """
    return SimpleNamespace(
        Robot=ScriptedRobot,
        Policy=ScriptedPolicy,
        feedback=make_feedback,
        late_planner=late_planner,
        episode=run_episode,
    )


@pytest.fixture(scope="session")
def tiny_dataset() -> Arrays:
    """The same few episodes for everybody."""
    return make_dataset()


@pytest.fixture(scope="session")
def store_tiny(tiny_dataset: Arrays) -> Callable[[Path, int], None]:
    """Puts the first episodes of the tiny data set into a store: (path, episodes)."""
    from hotstart.datasets.store import Store

    def write(path: Path, episodes: int) -> None:
        store = Store.create(
            path,
            fps=10,
            action_spec=tiny_dataset.action_spec,
            obs_spec=tiny_dataset.obs_spec,
        )
        starts = [0, *tiny_dataset.episode_ends]
        for first, end in pairwise(starts[: episodes + 1]):
            arrays = {}
            for name in ("state", "action"):
                arrays[name] = np.asarray(tiny_dataset.array(name)[first:end])
            store.append(arrays)

    return write


@pytest.fixture(scope="session")
def tiny_problem() -> Any:
    """`make_dataset`, for other sizes, and `right_action`."""
    return SimpleNamespace(make_dataset=make_dataset, right_action=right_action)


@pytest.fixture(scope="session")
def fresh_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a text in a Python of its own, with the names of this file and the arguments
    (strings) in `args`.
    """
    head = "import runpy, sys\nargs = sys.argv[2:]\nglobals().update(runpy.run_path(sys.argv[1]))\n"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", head + text, __file__, *map(str, arguments)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run


@pytest.fixture(scope="session")
def tiny_config() -> Any:
    """`make_config`."""
    return make_config


@pytest.fixture(scope="session")
def tiny_model() -> Any:
    """`make_model`."""
    return make_model


@pytest.fixture
def plugin_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a package as pip would install it: `plugin_package(module, code, {group: [entry
    points]})`.
    """
    made: list[str] = []

    def install(module: str, code: str, points: dict[str, list[str]]) -> Path:
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "\n".join(f"[{group}]\n" + "\n".join(lines) for group, lines in points.items())
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        made.append(module)
        return tmp_path

    yield install
    for module in made:
        sys.modules.pop(module, None)


@pytest.fixture
def hold_elsewhere():
    """A function that lets another process hold the lock on a target until the test ends."""
    program = (
        "import sys, time; from hotstart.datasets.locks import hold; "
        "held = hold(sys.argv[1]); print(); time.sleep(60)"
    )
    running = []

    def begin(target):
        running.append(
            subprocess.Popen([sys.executable, "-c", program, str(target)], stdout=subprocess.PIPE)
        )
        running[-1].stdout.readline()
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.wait()


WALL_CLOCK = ("tests/real_robot/", "tests/commands/test_deploy.py")
"""Where simulated arms move by the wall clock: beside a busy program they fall silent."""


def pytest_collection_modifyitems(items):
    """Mark the tests that must run with nothing beside them."""
    for item in items:
        place = item.path.relative_to(Path(__file__).parents[1]).as_posix()
        if place.startswith(WALL_CLOCK):
            item.add_marker(pytest.mark.wall_clock)
