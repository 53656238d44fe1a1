"""Environments of one task side by side in this process, as one `Robot`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows import put_rows, take_rows
from ..spec import (
    BoolArray,
    ConfigError,
    Feedback,
    FloatArray,
    IntArray,
    Observation,
    TimedActions,
)
from .base import Observations, TaskEnv
from .snapshots import RowSnapshot


class VectorEnv:
    """B environments of one task, a `Robot`.

    A row that is done is not stepped any more: its last observation and result stay until it is
    reset.
    """

    def __init__(
        self, envs: Sequence[TaskEnv], recorded: Sequence[int] = (), frame_every: int = 1
    ) -> None:
        """`recorded` rows are drawn at every `frame_every`-th tick, see `frames`."""
        first = envs[0]
        self.envs, self.rows = list(envs), len(envs)
        self._all = np.arange(self.rows)
        self.obs_spec, self.action_spec = first.obs_spec, first.action_spec
        self.rate_hz, self.max_steps = first.rate_hz, first.max_steps
        self.substeps = first.substeps
        self.servo_hz: float | None = None  # actions are applied at once
        self._frame_every = frame_every
        self._frames: dict[int, list[NDArray[np.uint8]]] = {row: [] for row in recorded}
        self._clear()

    def reset(self, seeds: Sequence[int]) -> Feedback:
        """Begin an episode in the first len(seeds) rows; the others are idle: done, with
        observations of zeros.
        """
        self._clear()
        return self.reset_rows(np.arange(len(seeds)), seeds)

    def reset_rows(self, rows: IntArray, seeds: Sequence[int]) -> Feedback:
        """Begin an episode in `rows` (R,) only, with a seed each; the other rows stay as they
        are.
        """
        for row, seed in zip(rows.tolist(), seeds, strict=True):
            env = self.envs[row]
            observation, info = env.reset(seed=int(seed))
            if row in self._frames:
                self._frames[row] = []
            self._write(row, observation, info)
        return take_rows(self._feedback, self._all)

    def observe(self) -> Observation:
        """The newest observation, key -> (B, ...)."""
        return take_rows(self._observation, self._all)

    def act(
        self,
        actions: FloatArray,
        substeps: IntArray | None = None,
        timed: Sequence[TimedActions] | None = None,
    ) -> Feedback:
        """`actions` (B, A), each for `substeps` (B,) or a whole tick; those of rows that are done
        do not count.

        A row with 0 substeps stands still: who acts has ended its episode before the environment
        did. `timed` is not needed: actions are applied at once.
        """
        counts = np.full(self.rows, self.substeps)
        if substeps is not None:
            counts = substeps
        self._feedback.reward[:] = 0.0
        for row in np.flatnonzero(~self.done & (counts != 0)):
            observation, reward, terminated, truncated, info = self.envs[row].step(
                actions[row], int(counts[row])
            )
            self._write(row, observation, info, reward, terminated, truncated)
        return take_rows(self._feedback, self._all)

    @property
    def done(self) -> BoolArray:
        """(B,): the episode is over."""
        return self._feedback.done

    def hold_position(self) -> FloatArray:
        """The actions (B, A) that keep every row where it is; zeros for rows that are done."""
        actions = np.zeros((self.rows, self.action_spec.width))
        for row in np.flatnonzero(~self.done):
            actions[row] = self.envs[row].hold_position()
        return actions

    def snapshot(self, rows: IntArray) -> list[RowSnapshot]:
        """The present state of `rows` (R,); raises ConfigError where the suite cannot save, or a
        row never began.
        """
        found = []
        for row in rows.tolist():
            found.append(RowSnapshot(self.envs[row].snapshot(), take_rows(self._feedback, [row])))
        return found

    def restore(self, rows: IntArray, snapshot: Sequence[RowSnapshot]) -> Feedback:
        """Put `rows` (R,) back into a snapshot of as many rows; what follows is the same to the
        bit.

        Raises ConfigError for a snapshot of another task, or of another number of rows.
        """
        check_count(rows, snapshot)
        for row, saved in zip(rows.tolist(), snapshot, strict=True):
            observation, _ = self.envs[row].restore(saved.env)
            self._feedback = put_rows(self._feedback, np.array([row]), saved.feedback)
            self._show(row, observation)
        return take_rows(self._feedback, self._all)

    def frames(self, row: int) -> list[NDArray[np.uint8]]:
        """The pictures of a recorded row's episode so far."""
        return self._frames[row]

    def stop(self) -> None:
        """Nothing to do: a simulation stands still between ticks."""

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()

    def _clear(self) -> None:
        """Every row idle."""
        self._observation: dict[str, NDArray[Any]] = {}
        for name, key in self.obs_spec.keys.items():
            self._observation[name] = np.zeros((self.rows, *key.shape), key.dtype)
        self._feedback = Feedback.silent(self.rows)
        self._feedback.terminated[:] = True
        for row in self._frames:
            self._frames[row] = []

    def _write(
        self,
        row: int,
        observation: Observations,
        info: Mapping[str, Any],
        reward: float = 0.0,
        terminated: bool = False,
        truncated: bool = False,
    ) -> None:
        """Keep what an environment says."""
        kept = self._feedback
        kept.reward[row] = reward
        kept.terminated[row] = terminated
        kept.truncated[row] = truncated
        kept.success[row] = info["success"]
        kept.score[row] = info["score"]
        assert kept.reports_success is not None
        kept.reports_success[row] = self.envs[row].reports_success
        self._show(row, observation)

    def _show(self, row: int, observation: Observations) -> None:
        """Keep the observation, and of a recorded row a picture of every n-th tick and the last."""
        for name, values in self._observation.items():
            values[row] = observation[name]
        env = self.envs[row]
        if row in self._frames and (env.steps % self._frame_every == 0 or self.done[row]):
            self._frames[row].append(env.render())


def check_count(rows: IntArray, snapshot: Sequence[RowSnapshot]) -> None:
    """Raise ConfigError for a snapshot of another number of rows."""
    if len(rows) != len(snapshot):
        raise ConfigError(
            f"{len(rows)} rows are to be restored from a snapshot of {len(snapshot)} rows"
        )
