"""Spreading independent work over processes, in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

from ..threads import usable_cpus

T = TypeVar("T")
_work: Callable[..., Any] | None = None


def worker_count(workers: int) -> int:
    """-1 is one per CPU that this process may use."""
    return usable_cpus() if workers < 0 else workers


def ordered(
    build: Callable[..., Callable[[T], Any]], arguments: tuple[Any, ...], items: Iterable[T], workers: int
) -> Generator[Any, None, None]:
    """build(*arguments)(item) for every item, in order; the callable is built once per process, `workers` 0 is this one.

    Only a few items are under way at a time, so a caller that stops listening wastes little.
    """
    if workers == 0:
        yield from map(build(*arguments), items)
        return
    endless = iter(items)
    pool = ProcessPoolExecutor(workers, get_context("forkserver"), _prepare, (build, arguments))
    try:
        waiting: list[Future[Any]] = [pool.submit(_one, item) for item in islice(endless, 2 * workers)]
        while waiting:
            yield waiting.pop(0).result()
            waiting += [pool.submit(_one, item) for item in islice(endless, 1)]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare(build: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    global _work
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    _work = build(*arguments)


def _one(item: Any) -> Any:
    assert _work is not None
    return _work(item)
