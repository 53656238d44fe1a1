"""Many rows of a simulated task as one `Robot`, spread over worker processes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rows import join_rows
from ..spec import (
    ConfigError,
    Feedback,
    FloatArray,
    HotstartError,
    IntArray,
    Observation,
    TimedActions,
)
from .snapshots import RowSnapshot
from .vector_env import check_count
from .worker import Job, Report, Specs
from .workers import ANSWER_S, EnvWorker, LocalWorker, ProcessWorker, SilentWorkerError


class SimulatedRobot:
    """B rows of a task, a `Robot`: a `VectorEnv` in every worker.

    What a row does depends on its seed and its actions only, whatever the workers are. A row that
    is done is not stepped any more: its last observation, success and score stay until it is reset.
    Rows without a seed are idle: done from the start, with observations of zeros.
    """

    def __init__(
        self,
        task: str,
        options: Mapping[str, Any] | None = None,
        rows: int = 1,
        workers: int = 0,
        record_rows: Sequence[int] = (),
        frame_every: int = 1,
        answer_s: float = ANSWER_S,
    ) -> None:
        """Build `rows` environments with `registry.make(task, **options)`, in this process or in
        `workers` others.

        `record_rows` are drawn at every `frame_every`-th tick, see `frames`. A worker that has not
        answered for `answer_s` seconds raises SilentWorkerError. Raises ConfigError for values that
        cannot be, and whatever the building of an environment raises.
        """
        if not 0 < answer_s < math.inf:
            raise ConfigError(
                f"answer_s is {answer_s}; a finite number of seconds above 0 is wanted"
            )
        _check_counts(rows, workers, record_rows, frame_every)
        self.rows, self.record_rows = rows, tuple(record_rows)
        count = max(1, min(workers, rows))
        self._rows_of: list[IntArray] = [np.arange(first, rows, count) for first in range(count)]
        self._workers: list[EnvWorker] = []
        jobs = [self._job(task, dict(options or {}), own, frame_every) for own in self._rows_of]
        try:
            specs = self._start_workers(jobs, workers > 0)
            for worker in self._workers:
                worker.allow(answer_s)
        except BaseException:
            self.close()
            raise
        self.obs_spec, self.action_spec = specs.obs_spec, specs.action_spec
        self.rate_hz = specs.rate_hz
        self.max_steps = specs.max_steps
        self.substeps = specs.substeps
        self.servo_hz: float | None = None  # a simulation applies actions at once
        self._observation: Observation | None = None

    def _job(self, task: str, options: Mapping[str, Any], own: IntArray, frame_every: int) -> Job:
        recorded = []
        for index, row in enumerate(own):
            if row in self.record_rows:
                recorded.append(index)
        return Job(task, options, len(own), recorded, frame_every)

    def _start_workers(self, jobs: Sequence[Job], apart: bool) -> Specs:
        """Start a worker per job; workers build their environments at the same time."""
        if not apart:
            local = LocalWorker(jobs[0])
            self._workers = [local]
            return local.specs
        for job, own in zip(jobs, self._rows_of, strict=True):
            self._workers.append(ProcessWorker(job, own))
        return self._receive()[0]

    def reset(self, seeds: Sequence[int]) -> Feedback:
        """Begin an episode in the first len(seeds) rows; the others are idle.

        Returns how things stand: a row's task may be fulfilled already. Raises ConfigError for more
        seeds than rows.
        """
        if not 0 < len(seeds) <= self.rows:
            raise ConfigError(
                f"reset got {len(seeds)} seeds for {self.rows} rows; give between 1 and {self.rows}"
            )
        whole = np.asarray(seeds, np.int64)
        return self._gather([("reset", whole[own[own < len(seeds)]]) for own in self._rows_of])

    def reset_rows(self, rows: IntArray, seeds: Sequence[int]) -> Feedback:
        """Begin an episode in `rows` (R,) only, with a seed each; the other rows go on as if
        nothing had happened.

        Raises ConfigError for rows that are not there or named twice, and for another number of
        seeds.
        """
        self._check_rows(rows)
        if len(seeds) != len(rows):
            raise ConfigError(
                f"{len(rows)} rows are to be reset with {len(seeds)} seeds; give one seed per row"
            )
        whole = np.asarray(seeds, np.int64)
        return self._gather(
            [("reset_rows", local, whole[which]) for which, local in self._split(rows)]
        )

    def snapshot(self, rows: IntArray) -> list[RowSnapshot]:
        """The present state of `rows` (R,), which `restore` goes on from in these or in other rows
        of the task.

        Raises ConfigError where the suite cannot save its state.
        """
        self._check_rows(rows)
        split = self._split(rows)
        for worker, (_, local) in zip(self._workers, split, strict=True):
            worker.submit("snapshot", local)
        found: dict[int, RowSnapshot] = {}
        for (which, _), part in zip(split, self._receive(), strict=True):
            found.update(zip(which.tolist(), part, strict=True))
        return [found[index] for index in range(len(rows))]

    def restore(self, rows: IntArray, snapshot: Sequence[RowSnapshot]) -> Feedback:
        """Put `rows` (R,) back into a snapshot of as many rows; what follows is the same to the
        bit.

        Raises ConfigError for a snapshot of another task, or of another number of rows.
        """
        self._check_rows(rows)
        check_count(rows, snapshot)
        questions = []
        for which, local in self._split(rows):
            questions.append(("restore", local, [snapshot[index] for index in which]))
        return self._gather(questions)

    def _split(self, rows: IntArray) -> list[tuple[IntArray, IntArray]]:
        """Of `rows` (R,) those of every worker: their places in `rows`, and their numbers within
        the worker.
        """
        count = len(self._workers)
        parts = []
        for number in range(count):
            which = np.flatnonzero(rows % count == number)
            parts.append((which, rows[which] // count))
        return parts

    def _check_rows(self, rows: IntArray) -> None:
        """Raise ConfigError for rows that are not there, or named twice."""
        inside = (rows >= 0) & (rows < self.rows)
        if not inside.all() or len(np.unique(rows)) < len(rows):
            raise ConfigError(
                f"rows are {rows.tolist()}; each is to be named once, the rows are 0 to "
                f"{self.rows - 1}"
            )

    def observe(self) -> Observation:
        """The newest observation, key -> (B, ...)."""
        if self._observation is None:
            raise RuntimeError("observe was called before reset")
        return self._observation

    def act(
        self,
        actions: FloatArray,
        substeps: IntArray | None = None,
        timed: Sequence[TimedActions] | None = None,
    ) -> Feedback:
        """`actions` (B, A) for `substeps` (B,), or a whole tick; those of rows that are done do not
        count.

        A row with 0 substeps stands still. `timed` is not needed: actions are applied at once.

        Raises ConfigError for another shape, or for numbers that are not finite in a row that is
        not done.
        """
        if self._observation is None:
            raise RuntimeError("act was called before reset")
        if np.shape(actions) != (self.rows, self.action_spec.width):
            raise ConfigError(
                f"actions have shape {np.shape(actions)}; it must be "
                f"{(self.rows, self.action_spec.width)}"
            )
        if substeps is None:
            counts = np.full(self.rows, self.substeps)
        else:
            counts = np.asarray(substeps)
        return self._gather(
            [("act", np.asarray(actions)[own], counts[own]) for own in self._rows_of]
        )

    def hold_position(self) -> FloatArray:
        """The actions (B, A) that keep every row where it is now."""
        for worker in self._workers:
            worker.submit("hold_position")
        return join_rows(self._receive(), self._rows_of)

    def frames(self, row: int) -> list[NDArray[np.uint8]]:
        """The pictures (H, W, 3) of a recorded row since its reset: the first state, every n-th
        tick, the last.

        Raises ConfigError for a row that is not recorded.
        """
        if row not in self.record_rows:
            raise ConfigError(
                f"row {row} is not recorded; recorded are {list(self.record_rows)}: see record_rows"
            )
        worker = self._workers[row % len(self._workers)]
        worker.submit("frames", row // len(self._workers))
        return worker.receive()

    def stop(self) -> None:
        """Nothing to do: a simulation stands still between ticks."""

    def close(self) -> None:
        """End the workers; may be called twice, and never waits longer than a few seconds."""
        for worker in self._workers:
            worker.begin_close()
        for worker in self._workers:
            worker.close()
        self._workers = []

    def __enter__(self) -> SimulatedRobot:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close, however the block ended."""
        self.close()

    def _gather(self, questions: Sequence[tuple[Any, ...]]) -> Feedback:
        """Ask every worker at once and put the reports together, row by row."""
        if not self._workers:
            raise RuntimeError("the robot is closed")
        for worker, question in zip(self._workers, questions, strict=True):
            worker.submit(*question)
        reports: list[Report] = self._receive()
        whole = join_rows(reports, self._rows_of)
        self._observation = whole.observation
        return whole.feedback

    def _receive(self) -> list[Any]:
        """The answers of all workers.

        The first error is raised after all have answered, so that no answer is left over. Where one
        does not answer, nobody waits for the others.
        """
        answers: list[Any] = []
        errors: list[Exception] = []
        for worker in self._workers:
            try:
                answers.append(worker.receive())
            except SilentWorkerError:
                raise
            except HotstartError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return answers


def _check_counts(rows: int, workers: int, record_rows: Sequence[int], frame_every: int) -> None:
    for name, value, least in (
        ("rows", rows, 1),
        ("workers", workers, 0),
        ("frame_every", frame_every, 1),
    ):
        if value < least:
            raise ConfigError(f"{name} is {value}; it must be at least {least}")
    wrong = []
    for row in record_rows:
        if not 0 <= row < rows:
            wrong.append(row)
    if wrong:
        raise ConfigError(f"record_rows names {wrong}; the rows are 0 to {rows - 1}")
