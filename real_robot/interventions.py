"""Take-over: an operator moves the robot for a while during a rollout of a policy.

The turns are corrections in the sense of HG-DAgger (1810.02890): a person decides when to step in,
and only what the person does is shown to the policy as right. `Recorder` writes who acted in every
step; `training.correction_weight` and `training.policy_weight` say what each counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ..control import RealClock
from ..control.splicing import zero_order_hold
from ..spec import Clock, FloatArray, Robot, Tick
from .keys import Keys
from .teleop.base import Teleoperator, view_robot

KEY = "space"
RISE = 0.05
"""A score that rises by less makes no progress."""


class Rule(Protocol):
    """Says when to take over."""

    def begin(self) -> None:
        """An episode begins."""
        ...

    def __call__(self, tick: Tick) -> None:
        """Take note of a turn."""
        ...

    def holds(self, tick: Tick) -> bool:
        """Whether to take over now."""
        ...


class Stalled:
    """A rule: the score has not risen for so long."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self.begin()

    def begin(self) -> None:
        """Nothing is reached."""
        self._best = -np.inf
        self._since_s: float | None = None

    def __call__(self, tick: Tick) -> None:
        """Take note of the score; the first one counts as progress."""
        score = float(tick.feedback.score[0])
        if score > self._best + RISE:
            self._best = score
            self._since_s = float(tick.now_s[0])

    def holds(self, tick: Tick) -> bool:
        """Whether there was no progress for too long."""
        if self._since_s is None:
            return False
        return float(tick.now_s[0]) - self._since_s > self.after_s


class Alarmed:
    """A rule: a list of alarms has become longer in this episode."""

    def __init__(self, alarms: Sequence[Any]) -> None:
        self._alarms = alarms
        self.begin()

    def begin(self) -> None:
        """Alarms of before do not count."""
        self._before = len(self._alarms)

    def __call__(self, tick: Tick) -> None:
        """The alarms are all."""

    def holds(self, tick: Tick) -> bool:
        """Whether there is a new one."""
        return len(self._alarms) > self._before


class TakeOver:
    """An intervention for `hotstart.run`: a key takes over, the same key gives back.

    A rule takes over, too, once an episode.

    The operator begins where the robot is, so that it does not jump; the policy then plans from
    what the operator has led to. Where the terminal goes while the operator has the robot, the
    robot stays where it was told to be.
    """

    def __init__(
        self,
        robot: Robot,
        teleoperator: Teleoperator,
        keys: Keys,
        key: str = KEY,
        say: Callable[[str], None] = print,
        clock: Clock | None = None,
        rules: Sequence[Rule] = (),
    ) -> None:
        """Take a robot of one row over.

        Args:
            robot: the robot of the loop
            teleoperator: the operator's device; it is started
            keys: the operator's
            key: the one that takes over and gives back
            say: shows the operator a line
            clock: the loop's own; None: this machine's
            rules: any of them takes over; their owner lets them listen to the loop
        """
        self.robot, self.teleoperator = robot, teleoperator
        self.keys, self.key = keys, key
        self.say = say
        self.clock: Clock = clock or RealClock()
        self.active = False
        """Whether the operator has the robot."""
        self.count = 0
        """How often it was taken over in this episode."""
        self.rules = tuple(rules)
        self._told = np.zeros(0)

    def begin(self) -> None:
        """An episode begins: the policy has the robot."""
        self.active = False
        self.count = 0

    def __call__(self, tick: Tick) -> FloatArray | None:
        """The operator's action (1, A) for a turn, None while the policy acts."""
        pressed = len(self.keys.take({self.key})) % 2 == 1
        if pressed or self._is_due(tick):
            self._change()
        if not self.active:
            return None
        view = view_robot(self.robot, tick.observation)
        action = self.teleoperator.read(self.clock.now_s(), view)
        if action is None:
            action = zero_order_hold(self.robot.action_spec, self._told, view.position)
        self._told = np.array(action, np.float64)
        return self._told[None]

    def _is_due(self, tick: Tick) -> bool:
        """Whether a rule takes over now."""
        return not self.count and any(rule.holds(tick) for rule in self.rules)

    def _change(self) -> None:
        """Take over from where the robot is, or give back."""
        self.active = not self.active
        if not self.active:
            self.say("the policy goes on")
            return
        self.count += 1
        position = np.array(self.robot.hold_position()[0], np.float64)
        self._told = position
        self.teleoperator.begin(position)
        self.say(f"you have the robot; {self.key} gives it back")
