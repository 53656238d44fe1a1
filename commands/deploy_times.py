"""What a deployment measures of time: a listener of the control loop, and `timing.json`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..control import RowLog
from ..spec import Actor, FloatArray, Tick

PERCENTILES = {"p50": 50, "p95": 95, "p99": 99}
LATE_SHARE = 0.5
"""A turn of the loop that takes longer than a control period by this share of it is late."""


@dataclass
class LoopTimes:
    """A listener: when each turn was over, how old its observation was, and who acted.

    One object may hear several episodes; `begin` starts each of them.
    """

    rate_hz: float
    names: Sequence[str] = ()
    """Of the action's numbers."""
    ended_s: list[float] = field(default_factory=list)
    """Of the present episode's turns, by `time.monotonic`."""
    periods_s: list[float] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    """How old the oldest part of the observation was when the turn began."""
    actors: list[int] = field(default_factory=list)
    actions: list[FloatArray] = field(default_factory=list)
    """(A,) of each turn."""

    def begin(self) -> None:
        """An episode begins: the pause before it is no period."""
        self.ended_s = []

    def __call__(self, tick: Tick) -> None:
        """Note a turn."""
        now_s = time.monotonic()
        if self.ended_s:
            self.periods_s.append(now_s - self.ended_s[-1])
        self.ended_s.append(now_s)
        self.ages_s.append(float(tick.now_s[0] - tick.made_s[0]))
        self.actors.append(int(tick.actors[0]))
        self.actions.append(tick.applied[0].copy())

    def describe(self) -> dict[str, Any]:
        """The turns as plain JSON values."""
        limit_s = (1 + LATE_SHARE) / self.rate_hz
        late = sum(period_s > limit_s for period_s in self.periods_s)
        return {
            "rate_hz": self.rate_hz,
            "turns": len(self.actors),
            "period_ms": describe_ms(self.periods_s),
            "late_turns": late,
            "observation_age_ms": describe_ms(self.ages_s),
            "acted": {
                actor.name.lower(): self.actors.count(int(actor))
                for actor in (Actor.POLICY, Actor.HOLD, Actor.INTERVENTION)
            },
        }


def describe_ms(seconds: Sequence[float]) -> dict[str, float | None]:
    """Median, 95th and 99th percentile and the largest [ms]; None for each where there are none."""
    if len(seconds) == 0:
        return dict.fromkeys((*PERCENTILES, "max"))
    values = 1000 * np.asarray(seconds, np.float64)
    found: dict[str, float | None] = {}
    for name, percent in PERCENTILES.items():
        found[name] = round(float(np.percentile(values, percent)), 3)
    found["max"] = round(float(values.max()), 3)
    return found


def describe_plans(
    calls: Sequence[tuple[int, float]], logs: Sequence[RowLog], executed: int, rate_hz: float
) -> dict[str, Any]:
    """Times of plans: inference, time to first action, and reaction.

    `calls` holds (rows, seconds) of every call of the policy, the first one cold. The time to first
    action goes from an observation to the first action of the plan that was made from it. Something
    that happens at a random moment is reacted to after that, and after up to one more chunk
    (FASTER, 2603.19199): `reaction_ms` are the quantiles of that sum.
    """
    seconds = [took_s for _, took_s in calls]
    first_s: list[float] = []
    for log in logs:
        for asked_s, spliced_s, _ in log.reactions:
            first_s.append(spliced_s - asked_s)
    cold_ms: float | None = None
    if seconds:
        cold_ms = round(1000 * seconds[0], 3)
    return {
        "plans": len(seconds),
        "cold_ms": cold_ms,
        "inference_ms": describe_ms(seconds[1:]),
        "time_to_first_action_ms": describe_ms(first_s),
        "reaction_ms": describe_ms(spread_reactions(first_s, executed / rate_hz)),
    }


def spread_reactions(first_s: Sequence[float], chunk_s: float, points: int = 21) -> list[float]:
    """Reaction times [s]: each time to first action, and evenly spread waits of 0 to a chunk."""
    waits = np.linspace(0.0, chunk_s, points)
    return [float(took_s + wait) for took_s in first_s for wait in waits]


def count_episodes(logs: Sequence[RowLog]) -> list[dict[str, Any]]:
    """Each episode with what came late in it."""
    found = []
    for log in logs:
        found.append(
            {
                "seed": log.seed,
                "steps": log.steps,
                "success": log.success,
                "score": float(log.score),
                "plans": len(log.nfe),
                "late_actions": log.late_actions,
                "starved_ticks": float(log.starved_ticks),
            }
        )
    return found


def join_times(
    loop: LoopTimes, plans: Mapping[str, Any], robot: Mapping[str, Any], logs: Sequence[RowLog]
) -> dict[str, Any]:
    """All of `timing.json` but for versions and machine."""
    episodes = count_episodes(logs)
    return {
        "loop": loop.describe(),
        **plans,
        "late_actions": sum(each["late_actions"] for each in episodes),
        "starved_ticks": sum(each["starved_ticks"] for each in episodes),
        "robot": dict(robot),
        "episodes": episodes,
    }
