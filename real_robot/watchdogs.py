"""Freshness: what to do when a policy, an arm's state or a camera has been silent for a while.

Pure functions of times (`time.monotonic` seconds). The last line is the arm's own watchdog, which
its driver names: it acts when this process falls silent.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

from ..spec import ConfigError


class Stage(IntEnum):
    """What the controller does, the gravest last."""

    FOLLOW = 0  # go on with the plan
    HOLD = 1  # the plan has run out: stay at its last action
    SLOW_DOWN = 2  # forget the plan, come to rest within the limits, and stay there
    STOP = 3  # the driver stops the arm, and somebody has to start it again


@dataclass(frozen=True)
class Thresholds:
    """How old [s] things may become."""

    policy_slow_s: float = 0.5
    """Turns of a control loop come every 0.03 to 0.2 s: two in a row are missing."""
    policy_stop_s: float = 10.0
    """As long as the control loop waits for a plan: the program hangs."""
    state_slow_s: float = 0.1
    """An arm at 1 rad/s has moved 6 degrees unseen; a bus that lost a few packets is back."""
    state_stop_s: float = 0.5
    """The connection is gone."""
    camera_s: float = 0.5
    """Some 15 pictures at 30 Hz: the camera hangs, and the policy would act on the past."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigError(f"{field.name} is {value}; a time above 0 is wanted")
        for name in ("policy", "state"):
            slow_s = getattr(self, f"{name}_slow_s")
            stop_s = getattr(self, f"{name}_stop_s")
            if slow_s > stop_s:
                raise ConfigError(
                    f"{name}_slow_s is {slow_s} and {name}_stop_s {stop_s}: "
                    "an arm slows down before it is stopped"
                )


def judge_policy(now_s: float, heard_s: float, left: int, thresholds: Thresholds) -> Stage:
    """What the policy's silence asks for; it was last heard of at `heard_s`, `left` actions wait.

    Every turn of the control loop counts as a word, whether its plan is new or not.
    """
    silent_s = now_s - heard_s
    if silent_s > thresholds.policy_stop_s:
        return Stage.STOP
    if silent_s > thresholds.policy_slow_s:
        return Stage.SLOW_DOWN
    if left == 0:
        return Stage.HOLD
    return Stage.FOLLOW


def judge_state(now_s: float, made_s: float, thresholds: Thresholds) -> Stage:
    """What the age of the arm's newest state asks for."""
    age_s = now_s - made_s
    if age_s > thresholds.state_stop_s:
        return Stage.STOP
    if age_s > thresholds.state_slow_s:
        return Stage.SLOW_DOWN
    return Stage.FOLLOW


def is_stale(now_s: float, made_s: float, thresholds: Thresholds) -> bool:
    """Whether a camera's picture is too old to act on."""
    return now_s - made_s > thresholds.camera_s
