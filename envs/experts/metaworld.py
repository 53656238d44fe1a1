"""Meta-World's own scripted policies as experts; the disturbance is added here."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ...spec import FloatArray
from ..metaworld import MetaWorldEnv, load_metaworld


class MetaWorldExpert:
    """The policy that ships with each task. `noise` (share of the action's range) pushes the hand, never the gripper."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.intended: FloatArray = np.zeros(4)
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        self._rng, self._push = rng, np.zeros(3)
        self._policy: Any = None

    def act(self, env: MetaWorldEnv) -> FloatArray:
        """The action (4,) in [-1, 1] for the present state of `env`."""
        if self._policy is None:
            self._policy = load_metaworld("policies").ENV_POLICY_MAP[env.task]()
        with warnings.catch_warnings():  # they say that their answer will be clipped, which is done here
            warnings.simplefilter("ignore", UserWarning)
            self.intended = np.clip(np.asarray(self._policy.get_action(env.state), np.float64), -1.0, 1.0)
        if self.noise:
            self._push = 0.8 * self._push + 0.6 * self.noise * self._rng.standard_normal(3)
        return np.append(np.clip(self.intended[:3] + self._push, -1.0, 1.0), self.intended[3])
