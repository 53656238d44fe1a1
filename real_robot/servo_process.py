"""The process that a controller lives in: its rights, its parent, its signals, its statistics."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType

import numpy as np

from ..system.interrupts import ASKING

PRIORITY = 40
"""Of SCHED_FIFO, 1 to 99: below the kernel's own threads for interrupts (50)."""
PR_SET_PDEATHSIG = 1
PR_SET_TIMERSLACK = 29
MCL_CURRENT, MCL_FUTURE = 1, 2
ORPHANED = signal.SIGUSR2
"""What the kernel sends when the parent dies."""
BIN_S, BINS = 1e-5, 20000
"""Durations are counted in bins of 10 us, the last one for all that is longer than 0.2 s."""


def take_real_time_rights() -> dict[str, str]:
    """Run before other processes, and keep memory from being paged out, as far as permitted.

    Returns what came of each, in words.
    """
    found: dict[str, str] = {}
    if not sys.platform.startswith("linux"):
        return {"scheduling": "usual", "memory": "may be paged out"}
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        found["scheduling"] = f"SCHED_FIFO {PRIORITY}"
    except OSError as error:
        found["scheduling"] = f"usual ({error.strerror}: allow it with `ulimit -r {PRIORITY}`)"
    if library.mlockall(MCL_CURRENT | MCL_FUTURE) == 0:
        found["memory"] = "locked"
    else:
        reason = os.strerror(ctypes.get_errno())
        found["memory"] = f"may be paged out ({reason}: allow it with `ulimit -l unlimited`)"
    return found


class Ended(BaseException):
    """A signal came, or the parent died, before the loop began."""


class Watch:
    """Who asks this process to end: a signal, or the death of the process that started it.

    While `raising`, it is an `Ended` in the main thread; later it is only noted.
    """

    def __init__(self, parent: int) -> None:
        self.parent = parent
        self.asked = 0
        """The first signal's number; 0: none."""
        self.raising = True
        for number in ASKING:
            signal.signal(number, self._note)
        signal.signal(ORPHANED, self._note_orphaned)
        if sys.platform.startswith("linux"):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(ORPHANED), 0, 0, 0)

    def is_orphan(self) -> bool:
        """Whether the process that started this one is dead."""
        return os.getppid() != self.parent

    def _note(self, number: int, frame: FrameType | None) -> None:
        first = not self.asked
        self.asked = self.asked or number
        if first and self.raising:
            raise Ended

    def _note_orphaned(self, number: int, frame: FrameType | None) -> None:
        """The kernel sends it also when a thread of the parent ends: then nothing is done."""
        if self.is_orphan() and self.raising:
            raise Ended


class Durations:
    """A histogram of durations: its cost does not grow with time."""

    def __init__(self) -> None:
        self._bins = np.zeros(BINS + 1, np.int64)
        self.longest_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._bins[min(int(seconds / BIN_S), BINS)] += 1
        self.longest_s = max(self.longest_s, seconds)

    def to_json(self) -> dict[str, float]:
        """p50, p95, p99, p99.9 and the longest, in ms, and how many there were; none: only that."""
        so_far = self._bins.cumsum()
        count = int(so_far[-1])
        found: dict[str, float] = {"count": count}
        if count == 0:
            return found
        for share in (0.5, 0.95, 0.99, 0.999):
            place = int(np.searchsorted(so_far, max(1.0, share * count)))
            found[f"p{100 * share:g}_ms"] = round(1e3 * BIN_S * (place + 0.5), 3)
        found["max_ms"] = round(1e3 * self.longest_s, 3)
        return found
