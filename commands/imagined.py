"""Dreams as a vector environment of Gymnasium, for people's own trainers and loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ..envs.base import observation_space
from ..spec import BoolArray, ConfigError, FloatArray, IntArray, Observation
from ..world_model.dreams import DreamSource

LARGEST = 2**31


class ImaginedVectorEnv(VectorEnv[Observation, FloatArray, NDArray[Any]]):
    """A `DreamSource` by Gymnasium's vector API: an action is a chunk of Ta control periods.

    `info` of every step holds `success` and `disagreement` (B,). A row that is over begins anew in
    the next step, whose action it ignores (`AutoresetMode.NEXT_STEP`).
    """

    def __init__(self, source: DreamSource) -> None:
        """Imagine in `source`; its rows are the environments."""
        model = source.model
        self.source = source
        self.num_envs = source.rows
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = observation_space(source.obs_spec)
        self.single_action_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (model.jump, source.action_spec.width), np.float64
        )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._over: BoolArray = np.ones(self.num_envs, bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in all rows; a single seed gives row i the seed + i."""
        if options:
            raise ConfigError(f"a dream knows no reset options, not {list(options)}")
        rows = np.arange(self.num_envs)
        if isinstance(seed, Sequence):
            if len(seed) != self.num_envs:
                raise ConfigError(f"{len(seed)} seeds for {self.num_envs} rows; give one each")
            seeds = list(self._draw(self.num_envs))
            for row, each in enumerate(seed):
                if each is not None:
                    seeds[row] = each
        else:
            super().reset(seed=seed)
            seeds = self._draw(self.num_envs)
            if seed is not None:
                seeds = (seed + rows).tolist()
        self._over[:] = False
        return dict(self.source.begin(rows, seeds)), {}

    def step(
        self, actions: FloatArray
    ) -> tuple[Observation, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Execute chunks (B, Ta, A); returns what Gymnasium's vector environments return."""
        wanted = self.action_space.shape
        if np.shape(actions) != wanted:
            raise ConfigError(f"actions have shape {np.shape(actions)}; chunks {wanted} are wanted")
        fresh: IntArray = np.flatnonzero(self._over)
        turn = self.source.step(np.asarray(actions, np.float64))
        observation = dict(turn.frames[-1])
        terminated = turn.terminated.copy()
        truncated = turn.truncated.copy()
        reward = turn.reward.copy()
        if len(fresh):
            begun = self.source.begin(fresh, self._draw(len(fresh)))
            observation = dict(begun)
            terminated[fresh] = False
            truncated[fresh] = False
            reward[fresh] = 0.0
        self._over = terminated | truncated
        info = {"success": turn.success, "disagreement": self.source.disagreement}
        return observation, reward, terminated, truncated, info

    def _draw(self, count: int) -> list[int]:
        return self.np_random.integers(LARGEST, size=count).tolist()
