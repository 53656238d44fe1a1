"""Demonstrations: run the demonstrator of a task from a seed and write down what a policy would
have seen and should have done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...control import LoopSettings, VirtualClock, run
from ...planners import ImmediatePlanner
from ...seeds import Purpose, numpy_generator
from ...spec import (
    BoolArray,
    ConfigError,
    Executed,
    FloatArray,
    Horizon,
    IntArray,
    Observation,
    Planned,
    Tick,
    unknown,
)
from ..base import TaskEnv
from ..registry import make
from ..vector_env import VectorEnv
from .play import PlayDemonstrator, RandomDemonstrator

Kind = Literal["scripted", "play", "random"]
KINDS: tuple[Kind, ...] = ("scripted", "play", "random")

_HERE = __name__.rsplit(".", 1)[0]
DEMONSTRATORS = {
    "lift": f"{_HERE}.lift:LiftDemonstrator",
    "can": f"{_HERE}.pick_place:CanDemonstrator",
    "square": f"{_HERE}.pick_place:SquareDemonstrator",
    "stack": f"{_HERE}.pick_place:StackDemonstrator",
    "door": f"{_HERE}.door:DoorDemonstrator",
    "ur5e_push": f"{_HERE}.arm:PushDemonstrator",
    "so101_lift": f"{_HERE}.arm:ArmLiftDemonstrator",
    "franka_push": f"{_HERE}.arm:PuckDemonstrator",
    "gate": f"{_HERE}.gate:GateDemonstrator",
    "metaworld": f"{_HERE}.metaworld:MetaWorldDemonstrator",
}
"""Environment -> the demonstrator for it, "module:Class"."""


class Demonstrator(Protocol):
    """Acts from the simulation's state; `intended` is the last action without the injected
    disturbance.
    """

    intended: FloatArray

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the disturbance."""
        ...

    def act(self, env: Any) -> FloatArray:
        """The action (A,) to execute now."""
        ...


@runtime_checkable
class Following(Protocol):
    """A demonstrator that remembers what was executed, as a policy with a filter does."""

    def follow(self, executed: FloatArray) -> None:
        """Take in what was executed (A,) of the action that it gave last."""
        ...


def make_demonstrator(env: str, noise: float, kind: Kind = "scripted") -> Demonstrator:
    """The demonstrator of an environment; ConfigError when there is none of this kind for it."""
    if kind == "random":
        return RandomDemonstrator()
    if env not in DEMONSTRATORS:
        known = unknown("scripted demonstrator for environment", env, sorted(DEMONSTRATORS))
        raise ConfigError(
            f"{known}; or use demonstrator=random, or the checkpoint of a policy; "
            "human demonstrations of Push-T: hotstart data download pusht"
        )
    module, name = DEMONSTRATORS[env].split(":")
    scripted = getattr(import_module(module), name)(noise=noise)
    if kind == "scripted":
        return scripted
    return PlayDemonstrator(scripted)


@dataclass(frozen=True)
class Demonstration:
    """One episode: what was seen and done, and how it went; `success` says something where the
    environment reports it.
    """

    arrays: dict[str, NDArray[Any]]  # observations, `action` and extras, (n, ...) each
    success: bool
    score: float
    reports_success: bool = True


def demonstrate(env: TaskEnv, demonstrator: Demonstrator, seed: int) -> Demonstration:
    """One episode of the control loop with the demonstrator as its policy.

    The action that is written down is the intended one: the injected noise is no part of the skill
    (DART, 1703.09327).
    """
    return record(VectorEnv([env]), Recording(env, demonstrator), seed)


def record(robot: VectorEnv, recording: Recording, seed: int) -> Demonstration:
    """One episode of the control loop in a robot of one row; the recording's demonstrator acts."""
    env = robot.envs[0]
    policy = DemonstratorPolicy(env, recording.demonstrator)
    settings = LoopSettings(max_ticks=env.max_steps)
    listeners = [recording.note]
    run(robot, policy, ImmediatePlanner(policy), VirtualClock(), [seed], settings, listeners)
    return recording.finish()


class DemonstratorPolicy:
    """A demonstrator as a `Policy` of one row: it plans one action at a time.

    It acts from the simulation's state, not from observations, and it remembers by itself what it
    is at: the state that the loop hands round is empty.
    """

    def __init__(self, env: TaskEnv, demonstrator: Demonstrator) -> None:
        self.env, self.demonstrator = env, demonstrator
        self.horizon = Horizon(observed=1, planned=1, executed=1)
        self.obs_spec, self.action_spec = env.obs_spec, env.action_spec
        self.rate_hz: float | None = env.rate_hz

    def initial_state(self, seeds: Sequence[int]) -> None:
        """Begin an episode; the seed fixes what the demonstrator draws in it."""
        self.demonstrator.reset(numpy_generator(seeds[0], Purpose.DEMONSTRATOR))

    def reset_rows(self, state: None, rows: IntArray, seeds: Sequence[int]) -> None:
        """Begin an episode in the one row."""
        if len(rows):
            self.initial_state(seeds)

    def observe(
        self,
        state: None,
        observation: Observation,
        executed: Executed | None = None,
        new: BoolArray | None = None,
    ) -> None:
        """Tell the demonstrator what was executed; it sees the simulation itself."""
        if executed is None or not isinstance(self.demonstrator, Following):
            return
        if np.isfinite(executed.actions[0]).all():
            self.demonstrator.follow(executed.actions[0])

    def plan(
        self, state: None, rows: IntArray, executed: IntArray, frozen: IntArray | None = None
    ) -> Planned:
        """The action to execute now, (1, 1, A)."""
        action = np.asarray(self.demonstrator.act(self.env), np.float64)
        return Planned(rows, action[None, None], state, np.zeros(1, np.int64))

    def adopt(self, state: None, planned: Planned) -> None:
        """Nothing to put anywhere."""


class Recording:
    """Listens to the loop and keeps what a policy would have seen and should have done."""

    def __init__(self, env: TaskEnv, demonstrator: Demonstrator) -> None:
        self.demonstrator = demonstrator
        self.reports_success = False
        names = (*env.obs_spec.keys, "action", "reward", "success")
        self.columns: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        self.score = 0.0

    def note(self, tick: Tick) -> None:
        """Add a turn: the observation, the intended action, the reward and success that
        followed.
        """
        for name, values in tick.observation.items():
            self.columns[name].append(np.array(values[0]))
        self.columns["action"].append(np.asarray(self.choose_action(tick), np.float32))
        self.columns["reward"].append(np.asarray(tick.feedback.reward[0], np.float32))
        self.columns["success"].append(np.asarray(tick.feedback.success[0], np.bool_))
        self.score = float(tick.feedback.score[0])
        self.reports_success = tick.feedback.fulfilled(0) is not None

    def choose_action(self, tick: Tick) -> FloatArray:
        """The action (A,) to write down: the intended one."""
        return self.demonstrator.intended

    def finish(self) -> Demonstration:
        """The episode, (n, ...) of every key; it succeeded where a turn of it did."""
        arrays = {name: np.stack(values) for name, values in self.columns.items()}
        success = bool(arrays["success"].any())
        return Demonstration(arrays, success, self.score, self.reports_success)


class DemonstrationRunner:
    """An environment with its demonstrator, kept between episodes: building one costs seconds."""

    def __init__(self, env: str, options: dict[str, Any], demonstrator: Demonstrator) -> None:
        self.demonstrator, self.env = demonstrator, make(env, **options)

    def __call__(self, seed: int) -> Demonstration:
        """The episode of a seed."""
        return demonstrate(self.env, self.demonstrator, seed)
