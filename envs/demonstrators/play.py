"""Experts that need not succeed: smooth random motion, and play around the task, as data for world
models.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...spec import BoolArray, FloatArray
from ..base import TaskEnv

MEMORY = 0.9
"""How much of a random action stays in the next one: motion that goes somewhere instead of
trembling.
"""
SEGMENT_TICKS = (8, 40)
"""Play changes its mind after a number of ticks drawn from this range."""
TASK_SHARE = 0.6
"""Share of the segments in which play works at the task."""


class RandomDemonstrator:
    """Slowly changing random actions within the bounds of the environment's actions; for any
    environment.
    """

    def __init__(self) -> None:
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the actions."""
        self._rng = rng
        self._way: FloatArray | None = None
        self.intended: FloatArray = np.zeros(0)

    def act(self, env: TaskEnv) -> FloatArray:
        """The action (A,) to execute now, and the intended one: nothing disturbs it."""
        low, high, discrete = bounds(env)
        drawn = self._rng.standard_normal(len(low))
        if self._way is None:
            way = drawn
        else:
            way = MEMORY * self._way + np.sqrt(1 - MEMORY**2) * drawn
        share = np.where(discrete, np.sign(way), np.tanh(way))
        self._way = way
        self.intended = (low + high) / 2 + (high - low) / 2 * share
        return self.intended


class PlayDemonstrator:
    """Works at the task for a while, wanders off for a while, and back: a scripted demonstrator and
    random motion in turns.
    """

    def __init__(self, demonstrator: Any) -> None:
        """`demonstrator` works at the task, with whatever noise it has."""
        self.demonstrator, self.wanderer = demonstrator, RandomDemonstrator()
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws everything."""
        self._rng = rng
        self._left = 0
        self._working = True
        self.demonstrator.reset(rng)
        self.wanderer.reset(rng)
        self.intended: FloatArray = np.zeros(0)

    def act(self, env: TaskEnv) -> FloatArray:
        """The action (A,) to execute now; what is written down is what was really done."""
        if self._left == 0:
            self._left = int(self._rng.integers(*SEGMENT_TICKS))
            self._working = bool(self._rng.random() < TASK_SHARE)
        self._left -= 1
        self.intended = (self.demonstrator if self._working else self.wanderer).act(env)
        return self.intended


def bounds(env: TaskEnv) -> tuple[FloatArray, FloatArray, BoolArray]:
    """(low, high, which are discrete) of the environment's actions, (A,) each; where there is no
    bound, -1 and 1.
    """
    space: Any = env.action_space
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    discrete = np.array([dim.kind == "discrete" for dim in env.action_spec.dims])
    return np.where(np.isfinite(low), low, -1.0), np.where(np.isfinite(high), high, 1.0), discrete
