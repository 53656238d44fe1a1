"""How motors on a servo bus come to rest: their goals lie where they are measured, not ahead.

A motor's goal leads a moving joint by its lag times the speed: a goal that merely stays where it is
lets the joint run on for that way. So the goal of a joint that moves follows where it is measured
until it is slow; nothing but the motor's own damping and torque then brakes it. It never follows a
joint back, and a joint that rests keeps its goal, and so what holds it against its weight.
Positions are readings [steps], speeds steps a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

FAST = 200.0
"""A joint that is faster moves: 0.3 rad/s."""
RESTING = 20.0
"""A joint that is slower rests."""
MOST_LEAD = 40.0
"""Goals of joints that have just begun to move stay so near: 3.5 degrees."""
SETTLED_S = 0.15
"""A joint rests under its weight when its goal has not moved for so long [s]."""
AHEAD_S = 0.005
"""What lies between a measurement and the goal that answers it [s]."""
LOOKS = 3
"""All joints are slow for so many looks in a row when the arm is said to rest."""


@dataclass(frozen=True)
class Seen:
    """What is known of one motor."""

    reading: float
    """Counted on over the encoder's wrap-around."""
    speed: float
    """Steps a second."""
    seen_s: float
    error: int = 0


@dataclass
class Goal:
    """Where a motor was sent, and what it has shown of its load."""

    value: float
    since_s: float
    sag: float = 0.0
    """How far the joint rests below its goal."""


class Goals:
    """The newest goals of an arm's motors, and how far each rests off its goal under its weight."""

    def __init__(self) -> None:
        self._goals: dict[str, Goal] = {}

    def note_sent(self, goals: Mapping[str, float], now_s: float) -> None:
        """Goals were sent."""
        for name, value in goals.items():
            known = self._goals.get(name)
            if known is None:
                self._goals[name] = Goal(value, now_s)
                continue
            if abs(value - known.value) > 1:
                known.since_s = now_s
            known.value = value

    def note_seen(self, seen: Mapping[str, Seen]) -> None:
        """Motors were read: those that have come to rest show how far off their goals they hang."""
        for name, motor in seen.items():
            goal = self._goals.get(name)
            if goal is not None and _is_settled(goal, motor):
                goal.sag = _clip(goal.value - motor.reading)

    def find(self, name: str, motor: Seen) -> Goal:
        """A motor's goal; without one: where it stands."""
        return self._goals.get(name) or Goal(motor.reading, motor.seen_s)


class Brake:
    """One stop: ask it for goals after every reading until it is `done`."""

    def __init__(self, goals: Goals, seen: Mapping[str, Seen]) -> None:
        self._ways: dict[str, float] = {}
        """1 or -1: where a joint goes that is being braked."""
        self._chosen: dict[str, float] = {}
        self._sags: dict[str, float] = {}
        self._ends: dict[str, float] = {}
        """Where each joint was sent, or is: it is sent no further."""
        self._seen_s: dict[str, float] = {}
        self._calm = 0
        for name, motor in seen.items():
            goal = goals.find(name, motor)
            self._sags[name] = goal.sag
            self._ends[name] = goal.value
            self._chosen[name] = goal.value
            if not _is_settled(goal, motor):
                self._chosen[name] = motor.reading + _clip(goal.value - motor.reading)

    @property
    def done(self) -> bool:
        """Whether no joint has moved for a while."""
        return self._calm >= LOOKS

    def choose(self, seen: Mapping[str, Seen]) -> Mapping[str, float]:
        """The goals by what is seen now; a joint that did not answer keeps its goal."""
        fast = False
        for name, motor in seen.items():
            if abs(motor.speed) <= FAST:
                continue
            fast = True
            if motor.seen_s != self._seen_s.get(name):
                self._seen_s[name] = motor.seen_s
                self._follow(name, motor)
        self._calm += 1
        if fast:
            self._calm = 0
        return self._chosen

    def _follow(self, name: str, motor: Seen) -> None:
        way = self._ways.get(name, 0.0)
        goal = motor.reading + AHEAD_S * motor.speed + self._sags[name]
        if way == 0.0:
            way = math.copysign(1.0, motor.speed)
            self._ways[name] = way
            self._ends[name] = way * max(way * goal, way * self._ends[name])
        elif motor.speed * way < 0 or (goal - self._chosen[name]) * way < 0:
            return
        self._chosen[name] = way * min(way * goal, way * self._ends[name])


def _is_settled(goal: Goal, motor: Seen) -> bool:
    return motor.seen_s - goal.since_s > SETTLED_S and abs(motor.speed) < RESTING


def _clip(lead: float) -> float:
    return min(max(lead, -MOST_LEAD), MOST_LEAD)
