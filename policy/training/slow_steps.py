"""Noticing that a training has become many times slower than it was at the start."""

from __future__ import annotations

from collections import deque
from statistics import median

from ...system.threads import explain_slowness

WARM_UP = 3
"""First steps, which are slow by themselves: memory is allocated, kernels are chosen."""
WINDOW = 15
"""Steps whose median counts, at the start and now."""
MANY_TIMES = 5.0


class SlowSteps:
    """Says once that the newest steps take many times longer than the first ones."""

    def __init__(self) -> None:
        self._skipped, self._said = 0, False
        self._first: list[float] = []
        self._newest: deque[float] = deque(maxlen=WINDOW)

    def note(self, seconds: float) -> str:
        """Note how long a step took; a notice where it is due, else an empty text."""
        if self._said:
            return ""
        if self._skipped < WARM_UP:
            self._skipped += 1
            return ""
        if len(self._first) < WINDOW:
            self._first.append(seconds)
            return ""
        self._newest.append(seconds)
        start_s, now_s = median(self._first), median(self._newest)
        if len(self._newest) < WINDOW or now_s < MANY_TIMES * start_s:
            return ""
        self._said = True
        return (
            f"a step takes {now_s:.2g} s, at the start it took {start_s:.2g} s; "
            f"{explain_slowness()}"
        )
