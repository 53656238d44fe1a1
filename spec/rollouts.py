"""Where rollouts come from: a simulator, or a world model through the same door.

A source runs B rows and takes a chunk of Ta actions a turn. It keeps termination and truncation
apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .actions import ActionSpec
from .arrays import BoolArray, FloatArray, IntArray, Observation
from .observations import ObsSpec


@dataclass(frozen=True)
class Turn:
    """What came of a chunk of actions in B rows."""

    frames: Sequence[Observation]
    """Observations (B, ...) after each control period, oldest first; a dream shows the last ones.

    A row whose episode is over keeps its last one, so that the newest frame is the final
    observation, never that of the next episode.
    """
    reward: FloatArray  # (B,) sum over the chunk
    terminated: BoolArray  # (B,) the task has ended the episode: nothing follows
    truncated: BoolArray  # (B,) a time limit has ended it: it would have gone on
    success: BoolArray  # (B,) the task was fulfilled in this turn
    steps: IntArray  # (B,) control periods that were really run
    elapsed: FloatArray  # (B,) share of the episode's time that is over, in [0, 1]
    doubtful: BoolArray | None = None
    """(B,) the episode is over, and its outcome is not to be learned from; None: none is.

    A world model says so where two of its members judge the episode differently.
    """

    @property
    def done(self) -> BoolArray:
        """(B,): the episode is over."""
        return self.terminated | self.truncated


class RolloutSource(Protocol):
    """B rows of episodes, real or imagined."""

    rows: int
    real: bool
    """Whether its control periods count in the ledger."""
    obs_spec: ObsSpec
    action_spec: ActionSpec
    rate_hz: float

    def begin(self, rows: IntArray, seeds: Sequence[int]) -> Observation:
        """Begin an episode in `rows` (R,) with a seed each; returns what all B rows observe."""
        ...

    def step(self, actions: FloatArray) -> Turn:
        """Execute a chunk of actions (B, Ta, A), in the units of the action specification.

        Rows whose episode is over stand still.
        """
        ...

    def close(self) -> None:
        """Free everything."""
        ...
