"""The loop of a worker process that runs some rows of a simulated task."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from ..spec import ActionSpec, Feedback, HotstartError, Observation, ObsSpec
from ..system.lifelines import end_with
from .registry import make
from .vector_env import VectorEnv


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
    """How some rows stand after a turn, in one message."""

    observation: Observation
    feedback: Feedback


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


def build_envs(job: Job) -> VectorEnv:
    """The environments of a job."""
    envs = [make(job.task, **job.options) for _ in range(job.count)]
    return VectorEnv(envs, job.recorded, job.frame_every)


def specs_of(envs: VectorEnv) -> Specs:
    """What the rows have in common."""
    return Specs(envs.obs_spec, envs.action_spec, envs.rate_hz, envs.max_steps, envs.substeps)


def call(envs: VectorEnv, method: str, arguments: Sequence[Any]) -> Any:
    """A method's result; where it is a Feedback, a `Report` with the observation that belongs to
    it.
    """
    result = getattr(envs, method)(*arguments)
    if isinstance(result, Feedback):
        return Report(envs.observe(), result)
    return result


def serve(connection: Connection) -> None:
    """Do what is asked until told to close, or until the other side is gone.

    The first message is a `Job`; each further one is (ticket, method of `VectorEnv`, arguments).
    Each is answered by (ticket, result or `Failure`).
    """
    try:
        rows = _build(connection, connection.recv())
        while rows is not None:
            ticket, method, arguments = connection.recv()
            if method == "close":
                rows.close()
                return
            attempt(connection, ticket, partial(call, rows, method, arguments))
    except (EOFError, ConnectionError):
        return  # the parent is gone: nobody is left to report to


def _build(connection: Connection, job: Job) -> VectorEnv | None:
    """Build the rows and answer with their specifications; None if that failed."""
    built: list[VectorEnv] = []

    def specs() -> Specs:
        built.append(build_envs(job))
        return specs_of(built[0])

    attempt(connection, 0, specs)
    if built:
        return built[0]
    return None


def send(connection: Connection, message: Any) -> None:
    """Send a message as plain bytes.

    `Connection.send` sends a view of a BytesIO, which an error's traceback keeps, and Python 3.12
    crashes where both are collected at its end.
    """
    connection.send_bytes(pickle.dumps(message))


def attempt(connection: Connection, ticket: int, work: Callable[[], Any]) -> None:
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
    send(connection, (ticket, answer))


def main() -> None:
    """Entry of a worker process: the argument is the number of the inherited socket."""
    end_with(int(sys.argv[1]))
    with Connection(int(sys.argv[1])) as connection:
        serve(connection)
    sys.stdout.flush()
    # No interpreter shutdown: graphics libraries crash in it, and nothing is left to save.
    os._exit(0)
