"""What every world model does: it begins at a recorded step and jumps a chunk of actions ahead.

Letters: B rows, N steps of the play, Ta actions of a chunk, A numbers of an action, M frames that
are decoded, F features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..spec import ActionSpec, ConfigError, ObsSpec
from .play import Play

State = dict[str, Tensor]
"""What a world model knows of B rows: name -> (B, ...). Only the model reads it."""


@dataclass(frozen=True)
class Jump:
    """What a chunk of actions has led to."""

    state: State
    disagreement: Tensor  # (B,) how far the members lie apart [standard deviations of a change]


class WorldModel(nn.Module, ABC):
    """Dynamics learned from play alone, an ensemble of `members`."""

    obs_spec: ObsSpec
    action_spec: ActionSpec
    rate_hz: float
    jump: int
    """Ta: control periods that a step goes ahead."""
    members: int

    @abstractmethod
    def encode(self, play: Play) -> State:
        """What `begin` needs of every step of a play: name -> (N, ...)."""

    def begin(self, encoded: Mapping[str, Tensor], index: Tensor) -> State:
        """The state of B rows at the recorded steps `index` (B,)."""
        return {name: values[index] for name, values in encoded.items()}

    @abstractmethod
    def step(self, state: State, actions: Tensor, member: Tensor) -> Jump:
        """Execute chunks (B, Ta, A) in the robot's units; `member` (B,) moves each row.

        The mean is taken, nothing is drawn: the noise of single steps would become noise of
        velocities. A row keeps its member for a whole episode (TS-infinity, PETS 1805.12114).
        """

    @abstractmethod
    def decode(self, state: State, frames: int) -> dict[str, Tensor]:
        """The last `frames` (M) observations that a policy would have seen: key -> (B, M, ...)."""

    def recall(self, state: State, frames: int) -> dict[str, Tensor]:
        """The same for a policy that carries this model's filter: `latent` (B, M, F), and the like.

        Raises ConfigError for a model without a filter.
        """
        raise ConfigError(
            f"the policy follows a filter, and a {type(self).__name__} has none: tune it in the "
            "latent world model that its filter is of"
        )

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain values from which the class's `from_json` builds it, weights apart."""

    @abstractmethod
    def features(self, state: State) -> Tensor:
        """What success and score are read from, (B, F), of about unit size."""
