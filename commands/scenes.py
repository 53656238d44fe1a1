"""Scenes that several evaluations share: each is set up once, and restored for the next sampler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..envs.simulated_robot import SimulatedRobot
from ..envs.snapshots import RowSnapshot
from ..spec import Feedback


class SharedScenes(SimulatedRobot):
    """A row for each seed, so that a scene that was set up before is restored at a reset.

    Setting up a scene of robosuite takes a tenth of a second, restoring it a millisecond. What
    follows is the same to the bit. Rows that are recorded are not meant to be shared: their
    pictures would go on.
    """

    _seeds: Sequence[int] = ()
    _scenes: Sequence[RowSnapshot] = ()

    def reset(self, seeds: Sequence[int]) -> Feedback:
        """Begin an episode in the first len(seeds) rows, as `SimulatedRobot` does."""
        wanted = list(seeds)
        rows = np.arange(len(wanted))
        if wanted == self._seeds[: len(wanted)]:
            return self.restore(rows, self._scenes[: len(wanted)])
        feedback = super().reset(wanted)
        self._seeds, self._scenes = wanted, self.snapshot(rows)
        return feedback
