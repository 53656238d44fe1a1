"""Ten lines to act in one's own environment: an agent is a policy with its state and its queue of actions, for one row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import ConfigError, FloatArray, Observation, ObsKey
from .diffusion_policy import DiffusionPolicy
from .samplers.base import Sampler
from .state import read_observation


class Agent:
    """`reset` before every episode, `act` once per tick; a new chunk is planned whenever the last one is used up.

    A tick is a control period of the data that the policy was trained on: call `act` `rate_hz` times a second, no matter how
    fast the robot could go. `hotstart.checks.check_fit(robot, agent.policy)` compares the rest.
    """

    def __init__(self, policy: DiffusionPolicy, seed: int = 0) -> None:
        self.policy = policy
        self.reset(seed)

    @property
    def rate_hz(self) -> float | None:
        """How often `act` is to be called a second; None for a model of one's own, which no checkpoint says it of."""
        return self.policy.rate_hz

    def reset(self, seed: int = 0) -> None:
        """Forget the last episode; the seed fixes the noise of the next one."""
        self._state = self.policy.initial_state([seed])
        self._queue: list[FloatArray] = []
        self._executed = 0

    def act(self, observation: Observation) -> FloatArray:
        """The action (A,) for this tick, in the robot's units, from an observation without a batch axis.

        The observation is a mapping, key -> array, even where there is one key only. Raises ConfigError for anything else, and
        names the key that is missing or of another shape or type.
        """
        self._state = self.policy.observe(self._state, self._batched(observation))
        if not self._queue:
            planned = self.policy.plan(
                self._state, np.zeros(1, np.int64), np.full(1, self._executed)
            )
            self._state = self.policy.adopt(self._state, planned)
            self._queue = list(planned.actions[0])
            self._executed = 0
        self._executed += 1
        return self._queue.pop(0)

    def _batched(self, observation: Observation) -> Observation:
        """The observation with a batch axis of one, what the policy does not read left out."""
        keys = self.policy.obs_spec.keys
        if not isinstance(observation, Mapping):
            example = ", ".join(
                f"{name!r}: array of shape {tuple(key.shape)}" for name, key in keys.items()
            )
            raise ConfigError(
                f"act() was given a {type(observation).__name__}; it takes a mapping: {{{example}}}"
            )
        return {
            name: _one(name, observation[name], key)
            for name, key in keys.items()
            if name in observation
        }


def _one(name: str, value: Any, key: ObsKey) -> NDArray[Any]:
    """An observation of the key `name` with a batch axis of one; raises ConfigError where it has another shape."""
    shape = tuple(key.shape)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ConfigError(
            f"observation {name!r} is no array: its rows have different lengths"
        ) from error
    array = read_observation(name, array, key)
    if array.shape != shape:
        raise ConfigError(
            f"observation {name!r} has shape {array.shape}; {shape} is wanted, without a batch axis"
        )
    return array[None]


def load(
    path: Path | str, inference: Sampler | Mapping[str, Any] | None = None, device: str = "cpu"
) -> Agent:
    """An agent from a checkpoint or a run, with a sampler (default: DDIM in 10 steps)."""
    return Agent(DiffusionPolicy.load(path, inference, device))
