"""Spreading independent work over processes, in order."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any, TypeVar

from ..envs.worker import Failure, attempt, send
from ..envs.workers import WorkerError, error_of
from ..system.lifelines import end_with, without_terminal_signals
from ..system.threads import ONE_THREAD, usable_cpus

T = TypeVar("T")


def worker_count(workers: int) -> int:
    """-1 is one per CPU that this process may use."""
    if workers < 0:
        return usable_cpus()
    return workers


def ordered(
    build: Callable[..., Callable[[T], Any]],
    arguments: tuple[Any, ...],
    items: Iterable[T],
    workers: int,
) -> Generator[Any, None, None]:
    """build(*arguments)(item) for every item, in order.

    The callable is built once per process, `workers` 0 is this one.

    Only a few items are under way at a time; a caller that stops listening, or is interrupted, ends
    them. Raises WorkerError when a worker process dies, and a worker's own error as it was where
    the user can mend it.
    """
    if workers == 0:
        yield from map(build(*arguments), items)
        return
    _start_server()
    pool: list[_Worker] = []
    try:
        for _ in range(workers):
            pool.append(_Worker(build, arguments))
        yield from _spread(pool, iter(items))
    finally:
        for worker in pool:
            worker.end()


def _spread(pool: list[_Worker], items: Iterator[Any]) -> Generator[Any, None, None]:
    """Hand the items to whoever is free, at most 2 for each worker ahead of the caller."""
    numbered = enumerate(items)
    idle = list(pool)
    busy: dict[Any, _Worker] = {}
    answers: dict[int, Any] = {}
    for wanted in itertools.count():
        while wanted not in answers:
            room = 2 * len(pool) - len(busy) - len(answers)
            for number, item in itertools.islice(numbered, min(len(idle), room)):
                worker = idle.pop()
                worker.submit(number, item)
                busy[worker.connection] = worker
            if not busy:
                return
            for ready in wait(list(busy)):
                worker = busy.pop(ready)
                number, answer = worker.receive()
                answers[number] = answer
                idle.append(worker)
        answer = answers.pop(wanted)
        if isinstance(answer, Failure):
            raise error_of(answer, "a worker process")
        yield answer


class _Worker:
    """A process with a pipe of its own.

    No queue, lock or pipe is shared with another worker, as those of `concurrent.futures` are: one
    that is killed in the midst of anything shows as the end of its pipe, and nothing else waits for
    it (up to Python 3.12.1 such a pool can wait for ever).
    """

    def __init__(self, build: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        context = get_context("forkserver")
        self.connection, theirs = context.Pipe()
        with theirs:
            self._process = context.Process(target=_serve, args=(theirs, build, arguments))
            with _without_main():
                self._process.start()

    def submit(self, number: int, item: Any) -> None:
        """Send an item; raises WorkerError if the worker is dead."""
        try:
            send(self.connection, (number, item))
        except OSError as error:
            raise _death() from error

    def receive(self) -> tuple[int, Any]:
        """The number of an item and its result or `Failure`; raises WorkerError if the worker is
        dead.
        """
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            raise _death() from error

    def end(self) -> None:
        """End the process at once: what it still does, nobody waits for."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _death() -> WorkerError:
    return WorkerError(
        "a worker process died, perhaps for want of memory: give fewer, as workers=1"
    )


def _start_server() -> None:
    """Start the server that the workers are forked from, and whose environment and signals they
    have.
    """
    with without_terminal_signals():
        # It lets Ctrl-C through again, so the server is started apart from it.
        resource_tracker.ensure_running()
    with _environment(ONE_THREAD), without_terminal_signals(), _without_main():
        forkserver.ensure_running()


@contextmanager
def _without_main() -> Iterator[None]:
    """Within it a new process does not import the caller's script.

    It needs nothing of it, and one without `if __name__ == "__main__"` would run once more.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Within it the variables are set."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(
    connection: Connection, build: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]
) -> None:
    """A worker: do every item that comes, until the other side is gone."""
    parent = parent_process()
    assert parent is not None
    end_with(parent.sentinel, grace_s=0.0)
    work: list[Callable[[Any], Any]] = []

    def do(item: Any) -> Any:
        if not work:
            work.append(build(*arguments))
        return work[0](item)

    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            number, item = connection.recv()
            attempt(connection, number, partial(do, item))
