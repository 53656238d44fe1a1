"""Scripted demonstrators of the arms' environments, with a push that disturbs them."""

from __future__ import annotations

import numpy as np

from ...arms.demonstrators import DEMONSTRATORS
from ...spec import FloatArray
from ..arm import ArmEnv
from .push import Push


class ArmDemonstrator:
    """The demonstrator of an environment's scene.

    `noise` pushes the tool aside, as a share of the way that it goes in a tick.
    """

    scene: str

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.intended: FloatArray = np.zeros(0)
        self._mover = DEMONSTRATORS[self.scene]()
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws the pushes."""
        self._push = Push(np.ones(3), self.noise, rng)
        self._mover.begin()

    def act(self, env: ArmEnv) -> FloatArray:
        """The action (A,) to execute now, as the environment takes it."""
        self._mover.tool_actions = env.actions == "tool"
        move = self._mover.move(env.scene, self._push.next())
        self.intended = move.intended
        return move.action


class PushDemonstrator(ArmDemonstrator):
    """Pushes the disc of `ur5e_push`."""

    scene = "ur5e_push"


class ArmLiftDemonstrator(ArmDemonstrator):
    """Lifts the cube of `so101_lift`."""

    scene = "so101_lift"


class PuckDemonstrator(ArmDemonstrator):
    """Pushes the puck of `franka_push`."""

    scene = "franka_push"
