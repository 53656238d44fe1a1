"""Demonstrations: run the demonstrator of a task from a seed and write down what a policy would
have seen and should have done.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...seeds import Purpose, numpy_generator
from ...spec import ConfigError, FloatArray, unknown
from ..base import TaskEnv
from ..registry import make
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


def make_demonstrator(env: str, noise: float, kind: Kind = "scripted") -> Demonstrator:
    """The demonstrator of an environment; ConfigError when there is none of this kind for it."""
    if kind == "random":
        return RandomDemonstrator()
    if env not in DEMONSTRATORS:
        known = unknown("scripted demonstrator for environment", env, sorted(DEMONSTRATORS))
        raise ConfigError(f"{known}; or use demonstrator=random, or the checkpoint of a policy")
    module, _, name = DEMONSTRATORS[env].partition(":")
    scripted = getattr(import_module(module), name)(noise=noise)
    if kind == "scripted":
        return scripted
    return PlayDemonstrator(scripted)


@dataclass(frozen=True)
class Demonstration:
    """One episode: what was seen and done, and how it went; `success` says something where the
    environment reports it.
    """

    arrays: dict[str, NDArray[Any]]  # observations, `action`, `reward` and `success`, (n, ...) each
    success: bool
    score: float
    reports_success: bool = True


def demonstrate(env: TaskEnv, demonstrator: Demonstrator, seed: int) -> Demonstration:
    """One episode: observations and intended actions, the reward and the success that followed
    each.

    The action that is written down is the intended one: the disturbance is no part of the skill
    (DART, 1703.09327).
    """
    observation, info = env.reset(seed=seed)
    demonstrator.reset(numpy_generator(seed, Purpose.DEMONSTRATOR))
    rows: dict[str, list[NDArray[Any]]] = {
        name: [] for name in (*env.obs_spec.keys, "action", "reward", "success")
    }
    over = False
    while not over:
        for name in env.obs_spec.keys:
            rows[name].append(np.array(observation[name]))
        action = demonstrator.act(env)
        rows["action"].append(np.asarray(demonstrator.intended, np.float32))
        observation, reward, terminated, truncated, info = env.step(action)
        rows["reward"].append(np.float32(reward))  # type: ignore[arg-type]
        rows["success"].append(np.bool_(info["success"]))  # type: ignore[arg-type]
        over = terminated or truncated
    arrays = {name: np.stack(values) for name, values in rows.items()}
    return Demonstration(arrays, bool(info["success"]), info["score"], env.reports_success)


class DemonstrationRunner:
    """An environment with its demonstrator, kept between episodes: building one costs seconds."""

    def __init__(self, env: str, options: dict[str, Any], demonstrator: Demonstrator) -> None:
        self.demonstrator, self.env = demonstrator, make(env, **options)

    def __call__(self, seed: int) -> Demonstration:
        """The episode of a seed."""
        return demonstrate(self.env, self.demonstrator, seed)
