"""A worker process ends with the process that started it, however that one ended."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

GRACE_S = 2.0
"""How long a worker may take to end by itself after its parent has gone."""
_CLOSED = select.POLLHUP | getattr(select, "POLLRDHUP", 0)


@contextmanager
def without_terminal_signals() -> Iterator[None]:
    """Processes started within never get Ctrl-C or SIGHUP, which a terminal sends to the whole
    group.

    The parent alone acts on them, and ends its workers. One that comes meanwhile reaches the parent
    afterwards.
    """
    held = []
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            held.append(getattr(signal, name))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(descriptor: int, grace_s: float = GRACE_S) -> None:
    """End this process `grace_s` after the other side of a pipe or socket was closed, by a kill of
    its owner for instance.

    A thread watches it, so that a worker that is busy, or waits for somebody else, ends too.
    """
    threading.Thread(
        target=_watch, args=(descriptor, grace_s), name="lifeline", daemon=True
    ).start()


def _watch(descriptor: int, grace_s: float) -> None:
    asked = select.poll()
    asked.register(descriptor, _CLOSED)
    asked.poll()
    time.sleep(grace_s)
    os._exit(1)
