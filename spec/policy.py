"""What a policy is: it turns observations into plans, and remembers in a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .actions import ActionSpec
from .arrays import BoolArray, FloatArray, IntArray, Observation
from .horizon import Horizon
from .observations import ObsSpec


@dataclass(frozen=True)
class Planned:
    """A policy's answer: chunks for some rows, and what their next plans continue from.

    `actions[:, 0]` belongs to the tick of the newest observation the policy saw.
    """

    rows: IntArray  # (R,)
    actions: FloatArray  # (R, Ta, A) in the robot's units
    plan: Any  # opaque, the policy's own: what it continues from, its arrays (R, ...), see `rows`
    nfe: IntArray  # (R,) denoiser evaluations spent on each row


@dataclass(frozen=True)
class Executed:
    """What each row executed since the observation before, holds and interventions included.

    The actions are those that the robot applied; where it cannot tell, those that were sent.
    """

    actions: FloatArray  # (B, A) in the robot's units; NaN in rows that executed nothing
    duration_s: FloatArray  # (B,) for how long, by the row's own clock [s]; 0 where nothing was

    @classmethod
    def nothing(cls, rows: int, width: int) -> Executed:
        """No row executed anything: the first observation of an episode."""
        return cls(np.full((rows, width), np.nan), np.zeros(rows))


State = Any
"""What a policy remembers: its own value, opaque to others. Its arrays are (B, ...), see `rows`."""


class Policy(Protocol):
    """Turns observations into chunks; what it remembers is a value that is handed in and out."""

    horizon: Horizon
    obs_spec: ObsSpec
    action_spec: ActionSpec
    rate_hz: float | None
    """Control rate of the data that it was trained on [Hz]; None where that is not known."""

    def initial_state(self, seeds: Sequence[int]) -> State:
        """A fresh state with one row per seed; the seed fixes the row's noise."""
        ...

    def reset_rows(self, state: State, rows: IntArray, seeds: Sequence[int]) -> State:
        """Begin anew in `rows` (R,), with one seed each; the other rows stay bit-equal."""
        ...

    def observe(
        self,
        state: State,
        observation: Observation,
        executed: Executed | None = None,
        new: BoolArray | None = None,
    ) -> State:
        """The state with one turn's observation (B, ...) in it; cheap, called every turn.

        `executed` says what the rows executed since the observation before; None where that is not
        known. `new` (B,) says for which rows a control period has passed since then; None: for all.
        In the others this observation replaces the one before: the history keeps its spacing. What
        a policy integrates over time goes by `executed.duration_s`, often less than a period.
        """
        ...

    def plan(
        self, state: State, rows: IntArray, executed: IntArray, frozen: IntArray | None = None
    ) -> Planned:
        """Chunks for `rows` (R,); `executed` (R,) and `frozen` (R,) are those of `PlanQuery`."""
        ...

    def adopt(self, state: State, planned: Planned) -> State:
        """The newer `state` with the plans of `planned` in its rows; its observations stay."""
        ...
