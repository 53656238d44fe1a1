"""Many rows of a simulated task as one `Robot`, spread over worker processes."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import spec
from ..spec import (
    ConfigError,
    Feedback,
    FloatArray,
    HotstartError,
    IntArray,
    Observation,
    TimedActions,
)
from ..system.threads import ONE_THREAD
from .lifelines import without_terminal_signals
from .worker import Failure, Job, Report, Specs, VectorEnv

PATIENCE_S = 3.0
"""How long a worker may take to close by itself before it is killed."""
ANSWER_S = 120.0
"""How long a worker may take to answer."""
BUILD_S = 600.0
"""How long it may take to build its environments."""


class WorkerError(HotstartError):
    """A worker process failed, died or does not answer; the message names its rows."""


class SilentWorkerError(WorkerError):
    """A worker process does not answer: it was stopped, or its simulation hangs."""


class EnvWorker(Protocol):
    """Somebody who runs some rows: `submit` asks, `receive` waits for the answer to the newest question."""

    def submit(self, method: str, *arguments: Any) -> None:
        """Ask for a method of `Rows`."""
        ...

    def receive(self) -> Any:
        """Its result."""
        ...

    def allow(self, answer_s: float) -> None:
        """Say how long an answer may take from now on."""
        ...

    def begin_close(self) -> None:
        """Say that it is over, without waiting."""
        ...

    def close(self) -> None:
        """Free everything; may be called twice."""
        ...


class LocalWorker:
    """Rows in this process."""

    def __init__(self, job: Job) -> None:
        self._rows: VectorEnv | None = VectorEnv(job)
        self.specs = self._rows.specs
        self._question: tuple[str, tuple[Any, ...]] = ("", ())

    def submit(self, method: str, *arguments: Any) -> None:
        """Remember the question."""
        self._question = (method, arguments)

    def receive(self) -> Any:
        """Do it now."""
        method, arguments = self._question
        return getattr(self._rows, method)(*arguments)

    def allow(self, answer_s: float) -> None:
        """Nobody is waited for: the work is done within the call."""

    def begin_close(self) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Close the environments."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None


class ProcessWorker:
    """Rows in a process of their own, started afresh.

    A plain subprocess and a socket, not `multiprocessing`: that one would import the caller's main module again in every
    worker (a training script with torch, or one without an `if __name__` guard).
    """

    def __init__(self, job: Job, rows: IntArray) -> None:
        self._name = f"the worker of rows {', '.join(map(str, rows))}"
        ours, theirs = socket.socketpair()
        with theirs, without_terminal_signals():
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-c",
                    f"from {VectorEnv.__module__} import main; main()",
                    str(theirs.fileno()),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    **ONE_THREAD,
                    "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
                },
            )
        self._connection = Connection(ours.detach())
        self._ticket = 0
        self.allow(BUILD_S)
        self._send(job)

    def allow(self, answer_s: float) -> None:
        """From now on an answer may take so long; the time in which this process itself is stopped does not count."""
        self._answer_s = answer_s
        limit = struct.pack("ll", int(answer_s), int(answer_s % 1 * 1e6))
        with socket.socket(fileno=os.dup(self._connection.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            same.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def submit(self, method: str, *arguments: Any) -> None:
        """Send the question; raises WorkerError if the worker is dead."""
        self._ticket += 1
        self._send((self._ticket, method, arguments))

    def receive(self) -> Any:
        """The answer to the newest question; one to an older question, left over from an interruption, is dropped.

        Raises the worker's own error if it is one that the user can mend, SilentWorkerError when there is no answer in
        time, else WorkerError.
        """
        ticket, answer = self._take()
        while ticket != self._ticket:
            ticket, answer = self._take()
        if isinstance(answer, Failure):
            raise self._error(answer)
        return answer

    def begin_close(self) -> None:
        """Ask the worker to end, without waiting for it."""
        if not self._connection.closed:
            with contextlib.suppress(OSError):  # it may be dead already
                self._connection.send((0, "close", ()))
            self._connection.close()

    def close(self) -> None:
        """End the worker, by force if it does not end by itself."""
        self.begin_close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except BlockingIOError as error:
            raise self._silence() from error
        except OSError as error:
            raise self._death() from error

    def _take(self) -> tuple[int, Any]:
        try:
            return self._connection.recv()
        except BlockingIOError as error:
            raise self._silence() from error
        except (EOFError, OSError) as error:
            raise self._death() from error

    def _silence(self) -> SilentWorkerError:
        """What to say of a worker that does not answer."""
        number = self._process.pid
        said = f"{self._name} (process {number}) has not answered for {self._answer_s:g} s"
        if _is_stopped(number):
            return SilentWorkerError(f"{said}: a signal or a debugger has stopped it")
        return SilentWorkerError(f"{said}: its simulation hangs, or is slower than answer_s allows")

    def _death(self) -> WorkerError:
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return WorkerError(
                f"{self._name} closed its connection but still runs (process {self._process.pid})"
            )
        if code == -9:
            hint = "; killed by a signal, perhaps for want of memory: use fewer workers"
        else:
            hint = ""
        return WorkerError(f"{self._name} died with exit code {code}{hint}")

    def _error(self, failure: Failure) -> Exception:
        if failure.mendable:
            kind = getattr(spec, failure.kind, HotstartError)
            error = kind(failure.message)
            error.add_note(f"in {self._name}\n{failure.trace}")
            return error
        return WorkerError(
            f"{self._name} failed with {failure.kind}: {failure.message}\n{failure.trace}"
        )


class SimulatedRobot:
    """B rows of a task, a `Robot`. What a row does depends on its seed and its actions only, whatever the workers are.

    A row that is done is not stepped any more: its last observation, success and score stay. Rows without a seed are idle:
    done from the start, with observations of zeros.
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
        """Build `rows` environments with `registry.make(task, **options)`, in this process or in `workers` others.

        `record_rows` are drawn at every `frame_every`-th tick, see `frames`. A worker that has not answered for `answer_s`
        seconds raises SilentWorkerError. Raises ConfigError for values that cannot be, and whatever the building of an
        environment raises.
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
        self.rate_hz, self.max_steps, self.substeps = specs.rate_hz, specs.max_steps, specs.substeps
        self.servo_hz = specs.rate_hz * specs.substeps
        self._observation: dict[str, NDArray[Any]] | None = None

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
        """Begin an episode in the first len(seeds) rows; the others are idle. Raises ConfigError for more seeds than rows.

        Returns how things stand: a row's task may be fulfilled already.
        """
        if not 0 < len(seeds) <= self.rows:
            raise ConfigError(
                f"reset got {len(seeds)} seeds for {self.rows} rows; give between 1 and {self.rows}"
            )
        padded = [int(seed) for seed in seeds] + [None] * (self.rows - len(seeds))
        return self._gather([("reset", [padded[row] for row in own]) for own in self._rows_of])

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
        """`actions` (B, A) for `substeps` (B,), or a whole tick; what they say for rows that are done is not looked at.

        A row with 0 substeps stands still. `timed` is not needed: actions are applied at once.

        Raises ConfigError for another shape, or for numbers that are not finite in a row that is not done.
        """
        if self._observation is None:
            raise RuntimeError("act was called before reset")
        if np.shape(actions) != (self.rows, self.action_spec.width):
            raise ConfigError(
                f"actions have shape {np.shape(actions)}; it must be {(self.rows, self.action_spec.width)}"
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
        return self._merge(self._receive())

    def frames(self, row: int) -> list[NDArray[np.uint8]]:
        """The pictures (H, W, 3) of a recorded row since its reset: the first state, every n-th tick, the last."""
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
        self._observation = {
            name: self._merge([report.observation[name] for report in reports])
            for name in self.obs_spec.keys
        }
        return Feedback(
            terminated=self._merge([report.done for report in reports]),
            truncated=np.zeros(self.rows, bool),
            reward=np.zeros(self.rows),
            success=self._merge([report.success for report in reports]),
            score=self._merge([report.score for report in reports]),
            reports_success=self._merge([report.reports_success for report in reports]),
        )

    def _receive(self) -> list[Any]:
        """The answers of all workers; the first error is raised after all have answered, so that none is left over.

        Where one does not answer, nobody waits for the others.
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

    def _merge(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, ...) from the parts of the workers."""
        whole = np.empty((self.rows, *parts[0].shape[1:]), parts[0].dtype)
        for own, part in zip(self._rows_of, parts, strict=True):
            whole[own] = part
        return whole


def _is_stopped(number: int) -> bool:
    """Whether a process was stopped by a signal or a debugger; False where the system does not say."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return False


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
