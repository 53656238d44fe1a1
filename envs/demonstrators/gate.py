"""Through the gate as a person would steer: towards a point before it, then to the goal."""

from __future__ import annotations

import numpy as np

from ...spec import FloatArray
from ..gate import GOAL_X, STEP_M, GateEnv
from .push import Push

APPROACH_M = 0.1
"""How far before the gate the point is brought onto the gate's height."""


class GateDemonstrator:
    """Steers by sight; `noise` (share of the action's range) pushes the point."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.intended: FloatArray = np.zeros(2)
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        self._push = Push(np.ones(2), self.noise, rng)

    def act(self, env: GateEnv) -> FloatArray:
        """The action (2,) in [-1, 1] for the present state of `env`."""
        x = env.point[0]
        if x < -APPROACH_M:
            aim = np.array([-APPROACH_M / 2, env.gate])
        elif x < APPROACH_M / 2:
            aim = np.array([x + STEP_M, env.gate])
        else:
            aim = np.array([GOAL_X, env.goal])
        way = aim - env.point
        self.intended = np.clip(way / max(STEP_M, float(np.hypot(*way))), -1.0, 1.0)
        return np.clip(self.intended + self._push.next(), -1.0, 1.0)
