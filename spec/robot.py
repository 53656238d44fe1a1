"""What a robot is: something that observes and acts, and what it hands over and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .actions import ActionSpec
from .arrays import BoolArray, FloatArray, IntArray, Observation
from .observations import ObsSpec


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What a robot reports of a turn, per row; hardware reports `Feedback.silent(rows)`.

    Reward, success and score are the environment's own: no maximum is taken of them.
    """

    terminated: BoolArray  # (B,) the task has ended the episode
    truncated: BoolArray  # (B,) something outside the task has ended it, as a time limit does
    reward: FloatArray  # (B,) of this turn alone
    success: BoolArray  # (B,) the task is fulfilled now
    score: FloatArray  # (B,) of the episode so far, as the environment gives it; it may fall
    reports_success: BoolArray | None = None  # (B,) rows where `success` counts; None: every row
    applied: FloatArray | None = None
    """(B, A): this turn's actions within the robot's own limits, as it applies them.

    NaN in rows, and None, where it cannot tell.
    """

    @property
    def done(self) -> BoolArray:
        """(B,): the episode is over."""
        return self.terminated | self.truncated

    @classmethod
    def silent(cls, rows: int) -> Feedback:
        """No end, no reward, no score, and success is not reported."""
        return cls(
            terminated=np.zeros(rows, bool),
            truncated=np.zeros(rows, bool),
            reward=np.zeros(rows),
            success=np.zeros(rows, bool),
            score=np.zeros(rows),
            reports_success=np.zeros(rows, bool),
        )

    def fulfilled(self, row: int) -> bool | None:
        """Whether the row's task is fulfilled now; None where that is not reported."""
        if self.reports_success is not None and not self.reports_success[row]:
            return None
        return bool(self.success[row])


@dataclass(frozen=True)
class TimedObservation:
    """An observation and when its parts were made, for robots whose sensors take time.

    Times are seconds of the control loop's clock, as in `TimedActions`. A plan's first action is
    meant for the time of the oldest part that the policy reads: a driver should pair a picture with
    the joint angles of the picture's time.
    """

    observation: Observation  # key -> (B, ...)
    made_s: Mapping[str, FloatArray]  # key -> (B,); a key that is missing was made just now


@dataclass(frozen=True)
class TimedActions:
    """Actions with the times that they are meant for, by the control loop's clock."""

    times_s: FloatArray  # (n,)
    actions: FloatArray  # (n, A)

    def __len__(self) -> int:
        return len(self.times_s)

    @classmethod
    def none(cls, width: int) -> TimedActions:
        """No actions."""
        return cls(np.zeros(0), np.zeros((0, width)))


@dataclass(frozen=True)
class Limits:
    """What each number of an action may be, and how fast it may change.

    Arrays are (A,), in the unit of the action (rad, m, 0 to 1 for a gripper), per s, s^2 and s^3.
    """

    lower: FloatArray
    upper: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    jerk: FloatArray


class Robot(Protocol):
    """B rows of something that observes and acts: B simulated environments, or one arm.

    A driver of one arm may inherit from it: it then has one row, no servo and no substeps unless
    it says otherwise, and needs no `reset` and no `reset_rows`.
    """

    rows: int = 1
    rate_hz: float
    """Control periods a second: the rate of the policy's actions."""
    servo_hz: float | None = None
    """Rate of a servo that follows timed actions; None: actions are applied when handed over."""
    substeps: int = 1
    """Parts of a control period that `act` can tell apart; 1 where it takes whole periods only."""
    obs_spec: ObsSpec
    action_spec: ActionSpec

    def reset(self, seeds: Sequence[int]) -> Feedback | None:
        """Begin an episode in the first rows, one per seed; the others are idle.

        The seed fixes all that is random in the episode, the model of the scene included. Returns
        how things stand before the first action (a task may be fulfilled already), or None where
        that is not known.
        """
        return None

    def reset_rows(self, rows: IntArray, seeds: Sequence[int]) -> Feedback | None:
        """Begin an episode in `rows` (R,) only, with a seed each; the others stay as they are.

        Returns how things stand in all B rows, or None where that is not known.
        """
        return None

    def observe(self) -> Observation | TimedObservation:
        """The newest observation, key -> (B, ...); with times unless all was made just now."""
        ...

    def act(
        self,
        actions: FloatArray,
        substeps: IntArray | None = None,
        timed: Sequence[TimedActions] | None = None,
    ) -> Feedback:
        """Apply actions (B, A), in the units of the action specification.

        Each counts for `substeps` (B,) of a control period; None: for a whole one. A row with 0
        substeps stands still: its episode is over. A robot with a servo follows `timed` (B)
        instead: each row's actions with their times, this turn's first, then those planned for
        later turns. They replace what it was handed before; behind the last one it holds. A robot
        without a servo gets None.
        """
        ...

    def hold_position(self) -> FloatArray:
        """The actions (B, A) that keep every row where it is now."""
        ...

    def stop(self) -> None:
        """Bring every row to a safe rest; called however the loop ends."""
        ...


class Snapshots(Protocol):
    """A robot that can go back: a simulation that can save its state within an episode."""

    def snapshot(self, rows: IntArray) -> Any:
        """The present state of `rows` (R,), the place in their random streams included.

        Raises ConfigError where a suite cannot save its state.
        """
        ...

    def restore(self, rows: IntArray, snapshot: Any) -> Feedback:
        """Put `rows` (R,) back into a snapshot of as many rows.

        What follows is the same to the bit. Returns how things stand in all B rows.
        """
        ...
