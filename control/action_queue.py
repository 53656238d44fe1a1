"""The actions that wait for their time, in every row of the control loop."""

from __future__ import annotations

import numpy as np

from ..spec import BoolArray, FloatArray, IntArray, TimedActions


class ActionQueue:
    """Timed actions of B rows, each of its own length, in arrays that are padded to the longest."""

    def __init__(self, rows: int, width: int) -> None:
        self._times_s = np.full((rows, 1), np.inf)  # (B, L) rising, infinite behind a row's last
        self._actions = np.zeros((rows, 1, width))  # (B, L, A)
        self._taken = np.zeros(rows, np.int64)  # (B,) of a row's actions
        self._rows = np.arange(rows)

    def count(self) -> IntArray:
        """Actions that are left in each row, (B,)."""
        return np.isfinite(self._times_s).sum(axis=1) - self._taken

    def read(self, row: int) -> TimedActions:
        """What is left in a row."""
        left = slice(self._taken[row], int(np.isfinite(self._times_s[row]).sum()))
        return TimedActions(self._times_s[row, left], self._actions[row, left])

    def write(self, row: int, timed: TimedActions) -> None:
        """Put these actions in the place of what is left in a row."""
        count = len(timed)
        lacking = count + 1 - self._times_s.shape[1]
        if lacking > 0:
            self._times_s = np.pad(self._times_s, ((0, 0), (0, lacking)), constant_values=np.inf)
            self._actions = np.pad(self._actions, ((0, 0), (0, lacking), (0, 0)))
        self._times_s[row, :count] = timed.times_s
        self._times_s[row, count:] = np.inf
        self._actions[row, :count] = timed.actions
        self._taken[row] = 0

    def find_due(self, end_s: FloatArray) -> tuple[BoolArray, TimedActions]:
        """Whether a row has an action before `end_s` (B,), and the newest such of each row."""
        before = (self._times_s < end_s[:, None]).sum(axis=1)
        newest = np.maximum(before - 1, 0)
        times_s = self._times_s[self._rows, newest]
        return before > self._taken, TimedActions(times_s, self._actions[self._rows, newest])

    def take(self, end_s: FloatArray, chosen: BoolArray) -> IntArray:
        """Take what is meant for `end_s` (B,) or earlier out of the `chosen` rows (B,).

        Returns how many actions that were in each row, (B,).
        """
        until_end = (self._times_s <= end_s[:, None]).sum(axis=1)
        taken = np.where(chosen, np.maximum(until_end - self._taken, 0), 0)
        self._taken = self._taken + taken
        return taken

    def clear(self, chosen: BoolArray) -> None:
        """Take everything out of the `chosen` rows (B,)."""
        self._times_s[chosen] = np.inf
        self._taken[chosen] = 0

    def put_off(self, lost_s: float) -> None:
        """Let every action come `lost_s` seconds later."""
        self._times_s = self._times_s + lost_s
