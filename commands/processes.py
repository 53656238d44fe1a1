"""Spreading independent work over processes, in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from typing import Any, TypeVar

from ..envs.lifelines import end_with, without_terminal_signals
from ..envs.workers import WorkerError
from ..system.threads import ONE_THREAD, usable_cpus

T = TypeVar("T")
_work: Callable[..., Any] | None = None


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
    them. Raises WorkerError when a worker process dies.
    """
    if workers == 0:
        yield from map(build(*arguments), items)
        return
    endless = iter(items)
    _start_server()
    pool = ProcessPoolExecutor(workers, get_context("forkserver"), _prepare, (build, arguments))
    try:
        waiting: list[Future[Any]] = [
            pool.submit(_one, item) for item in islice(endless, 2 * workers)
        ]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(_one, item) for item in islice(endless, 1)]
    except BrokenProcessPool as error:
        raise WorkerError(
            "a worker process died, perhaps for want of memory: give fewer, as workers=1"
        ) from error
    finally:
        _end(pool)


def _start_server() -> None:
    """Start the server that the workers are forked from, and whose environment and signals they
    have.
    """
    with without_terminal_signals():
        # It lets Ctrl-C through again, so the server is started apart from it.
        resource_tracker.ensure_running()
    with _environment(ONE_THREAD), without_terminal_signals():
        forkserver.ensure_running()


def _end(pool: ProcessPoolExecutor) -> None:
    """End the pool's processes at once: what they still do, nobody waits for."""
    for process in list((pool._processes or {}).values()):  # only Python 3.14 has a public way
        process.kill()
    pool.shutdown(wait=True, cancel_futures=True)


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


def _prepare(build: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    """A worker's first act."""
    global _work
    parent = parent_process()
    assert parent is not None
    end_with(parent.sentinel, grace_s=0.0)
    _work = build(*arguments)


def _one(item: Any) -> Any:
    assert _work is not None
    return _work(item)
