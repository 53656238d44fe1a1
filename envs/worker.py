"""Some rows of a simulated task in one process, and the loop of a worker process that serves them."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import ActionSpec, BoolArray, FloatArray, HotstartError, IntArray, ObsSpec
from .base import Observations, TaskEnv
from .lifelines import end_with
from .registry import make


@dataclass(frozen=True)
class Specs:
    """What a task's rows have in common."""

    obs_spec: ObsSpec
    action_spec: ActionSpec
    rate_hz: float
    max_steps: int
    substeps: int


@dataclass(frozen=True)
class Report:
    """The state of some rows after a tick; first axis: the row."""

    observation: dict[str, NDArray[Any]]
    done: BoolArray
    success: BoolArray
    score: FloatArray
    reports_success: BoolArray


@dataclass(frozen=True)
class Failure:
    """An exception of a worker, as text: not every exception can be sent."""

    kind: str
    message: str
    trace: str
    mendable: bool  # a HotstartError: the user's to mend


@dataclass(frozen=True)
class Job:
    """How a worker is to build its rows."""

    task: str
    options: Mapping[str, Any]
    count: int
    recorded: Sequence[int] = ()
    frame_every: int = 1


class VectorEnv:
    """Environments side by side. A row that is done is not stepped any more: its last observation and result stay."""

    def __init__(self, job: Job) -> None:
        self.envs: list[TaskEnv] = [make(job.task, **job.options) for _ in range(job.count)]
        self._recorded, self._frame_every = set(job.recorded), job.frame_every
        self._frames: dict[int, list[NDArray[np.uint8]]] = {}
        first = self.envs[0]
        self.specs = Specs(
            first.obs_spec, first.action_spec, first.rate_hz, first.max_steps, first.substeps
        )
        self.reset([None] * job.count)

    def reset(self, seeds: Sequence[int | None]) -> Report:
        """Begin an episode in every row; a row with seed None is idle: done, with zeros for an observation."""
        count = len(self.envs)
        self._done = np.array([seed is None for seed in seeds])
        self._success, self._score = np.zeros(count, bool), np.zeros(count, np.float64)
        self._reports = np.zeros(count, bool)
        keys = self.specs.obs_spec.keys.items()
        self._observation = {name: np.zeros((count, *key.shape), key.dtype) for name, key in keys}
        self._frames = {row: [] for row in self._recorded}
        for row, seed in enumerate(seeds):
            if seed is not None:
                self._write(row, *self.envs[row].reset(seed=int(seed)))
                self._record(row)
        return self._report()

    def act(self, actions: FloatArray, substeps: IntArray) -> Report:
        """`actions` (rows, A), each for `substeps` (rows,); those of rows that are done are not looked at.

        A row with 0 substeps stands still: who acts has ended its episode before the environment did.
        """
        for row in np.flatnonzero(~self._done & (substeps != 0)):
            env = self.envs[row]
            observation, _, terminated, truncated, info = env.step(actions[row], int(substeps[row]))
            self._done[row] = terminated or truncated
            self._write(row, observation, info)
            self._record(row)
        return self._report()

    def hold_position(self) -> FloatArray:
        """The actions (rows, A) that keep every row where it is; zeros for rows that are done."""
        width = self.specs.action_spec.width
        return np.stack(
            [
                np.zeros(width) if done else env.hold_position()
                for env, done in zip(self.envs, self._done, strict=True)
            ]
        )

    def frames(self, row: int) -> list[NDArray[np.uint8]]:
        """The pictures of a recorded row's episode so far."""
        return self._frames[row]

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()

    def _write(self, row: int, observation: Observations, info: Mapping[str, Any]) -> None:
        for name, values in self._observation.items():
            values[row] = observation[name]
        self._success[row], self._score[row] = info["success"], info["score"]
        self._reports[row] = self.envs[row].reports_success

    def _record(self, row: int) -> None:
        """Keep a picture of every n-th tick and of the last one."""
        env = self.envs[row]
        if row in self._recorded and (env.steps % self._frame_every == 0 or self._done[row]):
            self._frames[row].append(env.render())

    def _report(self) -> Report:
        observation = {name: values.copy() for name, values in self._observation.items()}
        said = (self._done.copy(), self._success.copy(), self._score.copy(), self._reports.copy())
        return Report(observation, *said)


def serve(connection: Connection) -> None:
    """Do what is asked until told to close, or until the other side is gone.

    The first message is a `Job`; each further one is (ticket, method of `Rows`, arguments). Each is answered by
    (ticket, result or `Failure`).
    """
    try:
        rows = _build(connection, connection.recv())
        while rows is not None:
            ticket, method, arguments = connection.recv()
            if method == "close":
                rows.close()
                return
            _attempt(connection, ticket, partial(getattr(rows, method), *arguments))
    except (EOFError, ConnectionError):
        return  # the parent is gone: nobody is left to report to


def _build(connection: Connection, job: Job) -> VectorEnv | None:
    """Build the rows and answer with their specifications; None if that failed."""
    built: list[VectorEnv] = []

    def specs() -> Specs:
        built.append(VectorEnv(job))
        return built[0].specs

    _attempt(connection, 0, specs)
    if built:
        return built[0]
    return None


def _attempt(connection: Connection, ticket: int, work: Callable[[], Any]) -> None:
    """Do the work and send its result, or its exception."""
    try:
        answer = work()
    except Exception as error:  # whatever it is, the parent shall say it
        answer = Failure(
            type(error).__name__,
            str(error),
            traceback.format_exc(),
            isinstance(error, HotstartError),
        )
    connection.send((ticket, answer))


def main() -> None:
    """Entry of a worker process: the argument is the number of the inherited socket."""
    end_with(int(sys.argv[1]))
    with Connection(int(sys.argv[1])) as connection:
        serve(connection)
    sys.stdout.flush()
    os._exit(
        0
    )  # no interpreter shutdown: graphics libraries crash in it, and nothing is left to save
