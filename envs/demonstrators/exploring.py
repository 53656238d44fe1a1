"""Play, the data of a world model: a policy disturbed, held still, or replaced by the scripted
demonstrator. What was really executed is written down, and episodes go on after success.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...control.splicing import zero_order_hold
from ...spec import FloatArray, Tick
from ..base import Observations, TaskEnv
from ..vector_env import VectorEnv
from .demonstrate import (
    Demonstration,
    DemonstrationRunner,
    Demonstrator,
    Following,
    Recording,
    record,
)
from .play import bounds
from .push import Push


class Explorer:
    """A policy, disturbed in all but a share of the episodes.

    Who acts in an episode is drawn first: the policy as it is deployed (`undisturbed`, a share),
    the scripted demonstrator (`scripted_share`, a share), or the policy; the latter two are
    disturbed. A disturbed episode draws the size of its pushes, up to `noise` (standard deviation,
    share of half the actions' range). At every tick a hold begins with `hold_chance` and lasts 1 to
    `hold_ticks` ticks: positions are commanded again, changes are zero.
    """

    def __init__(
        self,
        policy: Demonstrator,
        scripted: Demonstrator | None,
        *,
        undisturbed: float,
        scripted_share: float,
        noise: float,
        hold_chance: float,
        hold_ticks: int,
    ) -> None:
        """`scripted` None: the policy acts in its share too."""
        self.policy = policy
        self.scripted = scripted
        self.undisturbed = undisturbed
        self.scripted_share = scripted_share
        self.noise = noise
        self.hold_chance = hold_chance
        self.hold_ticks = hold_ticks
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; `rng` draws who acts, and all of the disturbance.

        `explored` says whether it is anything but the policy as it is deployed.
        """
        drawn = rng.random()
        self.explored = drawn >= self.undisturbed
        self._actor = self.policy
        is_scripted = self.explored and drawn < self.undisturbed + self.scripted_share
        if is_scripted and self.scripted is not None:
            self._actor = self.scripted
        self._noise = float(rng.uniform(0.0, self.noise))
        self._rng = rng
        self._push: Push | None = None
        self._held = 0
        self.intended: FloatArray = np.zeros(0)
        self._actor.reset(rng)

    def act(self, env: TaskEnv) -> FloatArray:
        """The action (A,) to execute now."""
        action = self._actor.act(env)
        if self.explored:
            action = self._disturb(env, action)
        self.intended = action
        return action

    def follow(self, executed: FloatArray) -> None:
        """Tell who acts what was executed (A,) in place of the action that it gave."""
        if isinstance(self._actor, Following):
            self._actor.follow(executed)

    def _disturb(self, env: TaskEnv, action: FloatArray) -> FloatArray:
        """The action (A,) with a push, or a hold in its place."""
        limits = bounds(env)
        low, high = limits[:2]
        if self._push is None:
            shares = np.where(limits[2], 0.0, (high - low) / 2)
            self._push = Push(shares, self._noise, self._rng)
            self.intended = np.full(len(low), np.nan)
        pushed = np.clip(action + self._push.next(), low, high)
        if self._held == 0 and self._rng.random() < self.hold_chance:
            self._held = int(self._rng.integers(1, self.hold_ticks + 1))
        if self._held == 0:
            return pushed
        self._held -= 1
        return zero_order_hold(env.action_spec, self.intended, env.hold_position())


class PlayRecording(Recording):
    """Keeps the actions that were executed, the score, and whether the episode was explored."""

    def __init__(self, env: TaskEnv, explorer: Explorer) -> None:
        super().__init__(env, explorer)
        self.explorer = explorer
        self.columns |= {"score": [], "explored": []}

    def note(self, tick: Tick) -> None:
        """Add a turn."""
        super().note(tick)
        self.columns["score"].append(np.asarray(tick.feedback.score[0], np.float32))
        self.columns["explored"].append(np.asarray(self.explorer.explored))

    def choose_action(self, tick: Tick) -> FloatArray:
        """The action (A,) that was executed."""
        return tick.applied[0]


class LongerEpisodes(VectorEnv):
    """One environment whose episode goes on for some ticks after the task was first fulfilled."""

    def __init__(self, env: TaskEnv, after_success: int) -> None:
        """`after_success` is the number of these ticks; the environment's own limit stays."""
        self._after_success = after_success
        self._left: int | None = None  # None until the task was fulfilled
        super().__init__([env])

    def _write(
        self,
        row: int,
        observation: Observations,
        info: Mapping[str, Any],
        reward: float = 0.0,
        terminated: bool = False,
        truncated: bool = False,
    ) -> None:
        env = self.envs[row]
        if env.steps == 0:
            self._left = None
        elif self._left is not None:
            self._left -= 1
        elif info["success"]:
            self._left = self._after_success
        ended = self._left == 0 or (terminated and env._over())
        super()._write(row, observation, info, reward, ended, truncated)


class PlayRunner(DemonstrationRunner):
    """An environment with an explorer, kept between episodes."""

    def __init__(
        self, env: str, options: dict[str, Any], explorer: Explorer, after_success: int
    ) -> None:
        super().__init__(env, options, explorer)
        self.explorer = explorer
        self.robot = LongerEpisodes(self.env, after_success)

    def __call__(self, seed: int) -> Demonstration:
        """The episode of a seed."""
        return record(self.robot, PlayRecording(self.env, self.explorer), seed)
