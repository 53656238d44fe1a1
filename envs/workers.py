"""Who runs the rows of a simulated task: this process, or worker processes that it starts and
watches.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from .. import spec
from ..spec import HotstartError, IntArray
from ..system.children import start_module
from .vector_env import VectorEnv
from .worker import Failure, Job, build_envs, call, send, serve, specs_of

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
    """Somebody who runs some rows: `submit` asks, `receive` waits for the answer to the newest
    question.
    """

    def submit(self, method: str, *arguments: Any) -> None:
        """Ask for a method of `VectorEnv`."""
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
        self._envs: VectorEnv | None = build_envs(job)
        self.specs = specs_of(self._envs)
        self._question: tuple[str, tuple[Any, ...]] = ("", ())

    def submit(self, method: str, *arguments: Any) -> None:
        """Remember the question."""
        self._question = (method, arguments)

    def receive(self) -> Any:
        """Do it now."""
        method, arguments = self._question
        assert self._envs is not None, "the rows are closed"
        return call(self._envs, method, arguments)

    def allow(self, answer_s: float) -> None:
        """Nobody is waited for: the work is done within the call."""

    def begin_close(self) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Close the environments."""
        if self._envs is not None:
            self._envs.close()
            self._envs = None


class ProcessWorker:
    """Rows in a process of their own, started afresh."""

    def __init__(self, job: Job, rows: IntArray) -> None:
        self._name = f"the worker of rows {', '.join(map(str, rows))}"
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = start_module(serve.__module__, [theirs.fileno()])
        self._connection = Connection(ours.detach())
        self._ticket = 0
        self.allow(BUILD_S)
        self._send(job)

    def allow(self, answer_s: float) -> None:
        """From now on an answer may take so long; the time in which this process itself is stopped
        does not count.
        """
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
        """The answer to the newest question; one to an older question, left over from an
        interruption, is dropped.

        Raises the worker's own error if it is one that the user can mend, SilentWorkerError when
        there is no answer in time, else WorkerError.
        """
        ticket, answer = self._take()
        while ticket != self._ticket:
            ticket, answer = self._take()
        if isinstance(answer, Failure):
            raise error_of(answer, self._name)
        return answer

    def begin_close(self) -> None:
        """Ask the worker to end, without waiting for it."""
        if not self._connection.closed:
            with contextlib.suppress(OSError):  # it may be dead already
                send(self._connection, (0, "close", ()))
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
            send(self._connection, message)
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


def error_of(failure: Failure, name: str) -> Exception:
    """What to raise for a worker's exception: its own kind if the user can mend it, else a
    WorkerError with its trace; `name` says whose it is.
    """
    if failure.mendable:
        kind = getattr(spec, failure.kind, HotstartError)
        error = kind(failure.message)
        error.add_note(f"in {name}\n{failure.trace}")
        return error
    return WorkerError(f"{name} failed with {failure.kind}: {failure.message}\n{failure.trace}")


def _is_stopped(number: int) -> bool:
    """Whether a process was stopped by a signal or a debugger; False where the system does not
    say.
    """
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return False
