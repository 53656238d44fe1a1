"""Demonstrations: run the expert of a task from a seed and write down what a policy would have seen and should have done."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...spec import ConfigError, FloatArray, unknown
from ..base import TaskEnv
from ..registry import make

_HERE = __name__.rsplit(".", 1)[0]
EXPERTS = {"lift": f"{_HERE}.lift:LiftExpert"}
"""Environment -> the expert for it, "module:Class"."""


class Expert(Protocol):
    """Acts from the simulation's state; `intended` is the last action without the injected disturbance."""

    intended: FloatArray

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the disturbance."""
        ...

    def act(self, env: Any) -> FloatArray:
        """The action (A,) to execute now."""
        ...


def make_expert(env: str, noise: float) -> Expert:
    """The expert of an environment; ConfigError when there is none."""
    if env not in EXPERTS:
        raise ConfigError(unknown("expert for environment", env, sorted(EXPERTS)))
    module, _, name = EXPERTS[env].partition(":")
    return getattr(import_module(module), name)(noise=noise)


def demonstrate(env: TaskEnv, expert: Expert, seed: int) -> tuple[dict[str, NDArray[Any]], bool]:
    """One episode: observations and intended actions, key -> (n, ...), and whether it succeeded.

    The action that is written down is the intended one: the disturbance is no part of the skill (DART, 1703.09327).
    """
    observation, info = env.reset(seed=seed)
    expert.reset(np.random.default_rng(seed))
    rows: dict[str, list[NDArray[Any]]] = {name: [] for name in (*env.obs_spec.keys, "action")}
    over = False
    while not over:
        for name in env.obs_spec.keys:
            rows[name].append(np.array(observation[name]))
        action = expert.act(env)
        rows["action"].append(np.asarray(expert.intended, np.float32))
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    return {name: np.stack(values) for name, values in rows.items()}, bool(info["success"])


class Demonstrator:
    """An environment with its expert, kept between episodes: building one costs seconds."""

    def __init__(self, env: str, options: dict[str, Any], noise: float) -> None:
        self.expert = make_expert(env, noise)
        self.env = make(env, **options)

    def __call__(self, seed: int) -> tuple[dict[str, NDArray[Any]], bool]:
        """The episode of a seed."""
        return demonstrate(self.env, self.expert, seed)
