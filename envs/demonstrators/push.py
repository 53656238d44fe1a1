"""The disturbance of demonstrators: a slowly changing push, so that demonstrations also show how to
come back to the path.
"""

from __future__ import annotations

import numpy as np

from ...spec import FloatArray


class Push:
    """Correlated over about five ticks; `shares` (n,) says how much of it each number gets."""

    def __init__(self, shares: FloatArray, noise: float, rng: np.random.Generator) -> None:
        """`noise` is the standard deviation, as a share of the action's range; `rng` draws."""
        self._shares = shares
        self._noise = noise
        self._rng = rng
        self._push = np.zeros(len(shares))

    def next(self) -> FloatArray:
        """The push (n,) of this tick."""
        if self._noise:
            self._push = (
                0.8 * self._push
                + 0.6 * self._noise * self._shares * self._rng.standard_normal(len(self._shares))
            )
        return self._push
