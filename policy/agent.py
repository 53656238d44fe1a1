"""An agent: a policy with its state and its queue of actions, to act in one's own environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..rows import Array
from ..spec import ConfigError, Executed, FloatArray, Observation, ObsKey, Policy, text_to_bytes
from .state import read_observation

if TYPE_CHECKING:
    from .samplers.base import Sampler


class Agent:
    """One row of a policy: call `reset` before every episode and `act` once per control period.

    A new chunk is planned when the last one is used up. The control period is that of the training
    data: call `act` `rate_hz` times a second, however fast the robot could go.
    `hotstart.checks.check_fit(robot, agent.policy)` compares the rest.
    """

    def __init__(self, policy: Policy, seed: int = 0) -> None:
        self.policy = policy
        self.reset(seed)

    @property
    def rate_hz(self) -> float | None:
        """How often to call `act` [Hz]; None for a model that comes from no checkpoint."""
        return self.policy.rate_hz

    def reset(self, seed: int = 0) -> None:
        """Forget the last episode; the seed fixes the noise of the next one."""
        self._state = self.policy.initial_state([seed])
        self._queue: list[FloatArray] = []
        self._executed = 0
        self._sent: FloatArray | None = None

    def act(self, observation: Mapping[str, ArrayLike]) -> FloatArray:
        """The action (A,) for this control period, in the robot's units.

        Args:
            observation: key -> array without a batch axis, even where there is one key only: states
                in the units of the training data, pictures (height, width, channels) as uint8, an
                instruction as a text

        Raises:
            ConfigError: for a key that is missing or of another shape or dtype, and names it

        Examples:
            >>> action = agent.act({"state": state, "image": frame, "instruction": "open it"})
        """
        executed = None
        if self._sent is not None:
            executed = Executed(self._sent[None], np.ones(1))
        row = self._add_row_axis(observation)
        self._state = self.policy.observe(self._state, row, executed)
        if not self._queue:
            self._plan()
        self._executed += 1
        self._sent = self._queue.pop(0)
        return self._sent

    def note_executed(self, action: ArrayLike) -> None:
        """Say what was executed (A,) in place of the action that `act` gave last.

        A policy with a filter follows it; without this it follows its own actions.
        """
        self._sent = np.array(action, np.float64)

    def _plan(self) -> None:
        """Fill the queue with a new chunk."""
        row = np.zeros(1, np.int64)
        planned = self.policy.plan(self._state, row, np.full(1, self._executed))
        self._state = self.policy.adopt(self._state, planned)
        self._queue = list(planned.actions[0])
        self._executed = 0

    def _add_row_axis(self, observation: Mapping[str, ArrayLike]) -> Observation:
        """The keys that the policy reads, with a first axis of one row."""
        keys = self.policy.obs_spec.keys
        if not isinstance(observation, Mapping):
            shapes = [f"{name!r}: array of shape {tuple(key.shape)}" for name, key in keys.items()]
            raise ConfigError(
                f"act() was given a {type(observation).__name__}; it takes a mapping: "
                f"{{{', '.join(shapes)}}}"
            )
        row = {}
        for name, key in keys.items():
            if name in observation:
                row[name] = _read_one(name, observation[name], key)[None]
        return row


def _read_one(name: str, value: ArrayLike, key: ObsKey) -> Array:
    """The observation (*shape) of one key; ConfigError where it has another shape or dtype."""
    shape = tuple(key.shape)
    if key.kind == "language" and isinstance(value, str):
        return text_to_bytes(value)
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
    return array


def load(
    path: Path | str, inference: Sampler | Mapping[str, Any] | None = None, device: str = "cpu"
) -> Agent:
    """An agent from a checkpoint or a run, to act in one's own environment.

    Args:
        path: folder of a checkpoint or of a run
        inference: the sampler, or the configuration of one; None is DDIM in 10 steps
        device: torch device of the network, as "cpu" or "cuda"

    Raises:
        CheckpointError: where the checkpoint cannot be read
        ConfigError: where the checkpoint was not trained for the sampler

    Examples:
        >>> agent = hotstart.load("runs/mine", hotstart.WarmStart(steps=2))
        >>> agent.reset(seed=0)
        >>> action = agent.act(observation)  # once per control period
    """
    from .diffusion_policy import DiffusionPolicy  # torch, which an exported policy does without

    return Agent(DiffusionPolicy.load(path, inference, device))
