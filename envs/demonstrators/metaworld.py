"""Meta-World's own scripted policies as demonstrators; the disturbance is added here."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ...spec import FloatArray
from ..metaworld import MetaWorldEnv, load_metaworld
from .push import Push


class MetaWorldDemonstrator:
    """The policy that ships with each task. `noise` (share of the action's range) pushes the hand,
    never the gripper.
    """

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.intended: FloatArray = np.zeros(4)
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        self._push = Push(np.ones(3), self.noise, rng)
        self._policy: Any = None

    def act(self, env: MetaWorldEnv) -> FloatArray:
        """The action (4,) in [-1, 1] for the present state of `env`."""
        if self._policy is None:
            self._policy = load_metaworld("policies").ENV_POLICY_MAP[env.task]()
        with (
            warnings.catch_warnings()
        ):  # they say that their answer will be clipped, which is done here
            warnings.simplefilter("ignore", UserWarning)
            self.intended = np.clip(
                np.asarray(self._policy.get_action(env.state), np.float64), -1.0, 1.0
            )
        return np.append(
            np.clip(self.intended[:3] + self._push.next(), -1.0, 1.0), self.intended[3]
        )
