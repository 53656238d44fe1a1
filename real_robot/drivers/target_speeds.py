"""How fast commanded targets move, for clients that want the speed beside the place."""

from __future__ import annotations

import numpy as np

from ...spec import FloatArray


class SpeedEstimate:
    """Speeds of the targets that are commanded one after the other, for the dampers."""

    def __init__(self, most: FloatArray, least_s: float) -> None:
        """`most`: (n,) no speed is above; targets within `least_s` of each other tell none."""
        self._most = most
        self._least_s = least_s
        self._speeds = np.zeros_like(most)
        self._target: FloatArray | None = None
        self._told_s = 0.0

    def reset(self) -> None:
        """The next target is the first one."""
        self._target = None
        self._speeds = np.zeros_like(self._most)

    def update(self, target: FloatArray, now_s: float) -> FloatArray:
        """(n,) per second, of the way from the last target to this one."""
        passed_s = now_s - self._told_s
        if self._target is not None:
            if passed_s < self._least_s:
                return self._speeds
            speeds = (target - self._target) / passed_s
            self._speeds = np.clip(speeds, -self._most, self._most)
        self._target = target.copy()
        self._told_s = now_s
        return self._speeds
