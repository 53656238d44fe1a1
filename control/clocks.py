"""Clocks of the control loop: the machine's own, and a virtual one for simulation."""

from __future__ import annotations

import time


class RealClock:
    """Monotonic seconds of this machine."""

    def now_s(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()

    def sleep_until(self, time_s: float) -> None:
        """Sleep to the deadline; late calls return at once."""
        left = time_s - time.monotonic()
        if left > 0:
            time.sleep(left)


class VirtualClock:
    """Seconds that pass only in `sleep_until`: simulation as fast as it can, and repeatable."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        """Virtual seconds since the start."""
        return self._now_s

    def sleep_until(self, time_s: float) -> None:
        """Jump to the deadline."""
        self._now_s = max(self._now_s, time_s)
