"""What an evaluation measures on the logs of its episodes: smoothness, reaction, NFE, time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..control import RowLog
from ..spec import BoolArray, FloatArray
from .intervals import median_interval


def smoothness(
    commands: Sequence[ArrayLike],
    rate_hz: float,
    scale: FloatArray,
    continuous: BoolArray,
    absolute: BoolArray,
) -> dict[str, float | None]:
    """How smooth the commands of some episodes, (n, A) each, were.

    `jerk_rms` is the root mean square jerk and `max_step` the largest change from one tick to the
    next. Commands count in normalised units h: divided by `scale` (A,), half the range of each
    number in the training data, so that tasks compare. An absolute number is a position: its jerk
    is the third difference times rate^3 [h / s^3]. A relative one is a velocity already: the second
    difference times rate^2 [h / s^2, h being a speed]. `continuous` and `absolute` are (A,).
    Numbers that are discrete, or that never change in the training data, do not count. None where
    no episode is long enough.
    """
    used = continuous & (scale > 0)
    jerks: list[FloatArray] = []
    steps: list[FloatArray] = []
    for episode in commands:
        path = np.asarray(episode, np.float64).reshape(-1, len(scale))
        for kind, order in ((used & absolute, 3), (used & ~absolute, 2)):
            scaled = path[:, kind] / scale[kind]
            jerks.append(np.diff(scaled, n=order, axis=0).ravel() * rate_hz**order)
            steps.append(np.abs(np.diff(scaled, axis=0)).ravel())
    jerk = np.concatenate([np.zeros(0), *jerks])
    step = np.concatenate([np.zeros(0), *steps])
    found: dict[str, float | None] = {"jerk_rms": None, "max_step": None}
    if jerk.size:
        found["jerk_rms"] = float(np.sqrt(np.mean(jerk**2)))
    if step.size:
        found["max_step"] = float(step.max())
    return found


def measure_jerks(
    commands: Sequence[ArrayLike],
    rate_hz: float,
    scale: FloatArray,
    continuous: BoolArray,
    absolute: BoolArray,
) -> list[float | None]:
    """The root mean square jerk of every episode alone, as `smoothness` measures it."""
    jerks: list[float | None] = []
    for episode in commands:
        found = smoothness([episode], rate_hz, scale, continuous, absolute)
        jerks.append(found["jerk_rms"])
    return jerks


def at_ticks(log: RowLog) -> FloatArray:
    """The command in force at every control period of an episode, (n, A).

    A hold that was cut short between two periods is in force at none.
    """
    ends = np.cumsum(log.durations)
    if len(ends):
        ticks = np.arange(int(np.ceil(ends[-1] - 1e-9)))
    else:
        ticks = np.zeros(0, int)
    return np.asarray(log.commands)[np.searchsorted(ends, ticks + 1e-9, side="right")]


def reaction_s(logs: Sequence[RowLog]) -> float | None:
    """Mean time from a moment of an episode to the first action that knows of it [s].

    That is the first action of the first plan whose observation was made at or after the moment.
    For the moments between the observations o' and o of two successive plans it is the first one of
    the later plan, at f: their mean is f - (o' + o) / 2, and counts as long as they are apart. None
    where no row has two plans.
    """
    means: list[float] = []
    apart: list[float] = []
    for log in logs:
        for (before, _, _), (observed, acted, _) in itertools.pairwise(log.reactions):
            means.append(acted - (before + observed) / 2)
            apart.append(observed - before)
    if not sum(apart) > 0:
        return None
    return float(np.average(means, weights=apart))


def actions_per_plan(logs: Sequence[RowLog]) -> float | None:
    """Mean number of actions from one usable plan to the next; None where no row has two."""
    spans: list[int] = []
    for log in logs:
        for (_, _, before), (_, _, after) in itertools.pairwise(log.reactions):
            spans.append(after - before)
    if sum(spans) > 0:
        return float(np.mean(spans))
    return None


def count_nfe(logs: Sequence[RowLog], executed: float) -> dict[str, float | None]:
    """Mean denoiser evaluations (NFE) of a row's first plan, and of its later ones.

    `per_action` is that of the later plans, or of the first ones where there are no others, divided
    by the actions that were `executed` of a plan.
    """
    cold: list[int] = []
    warm: list[int] = []
    for log in logs:
        cold += log.nfe[:1]
        warm += log.nfe[1:]
    found: dict[str, float | None] = {"cold": _mean(cold), "warm": _mean(warm), "per_action": None}
    steady = _mean(warm or cold)
    if steady is not None:
        found["per_action"] = steady / executed
    return found


def _mean(values: Sequence[int]) -> float | None:
    if not values:
        return None
    return float(np.mean(values))


def measure_calls(
    call_seconds: Sequence[tuple[int, float]], rate_hz: float, executed: float
) -> dict[str, float | None]:
    """Times of the policy's calls [ms], each given as (rows, seconds).

    `p50` (with its 95 % interval) and `p95` are of whole calls, `rows` is the mean number of rows
    in one. `per_second_of_motion` is one row's share of the calls for a second of its motion, at
    `rate_hz` and with `executed` actions of each plan.
    """
    keys = ("p50", "p50_low", "p50_high", "p95", "per_second_of_motion", "rows", "calls")
    found: dict[str, float | None] = dict.fromkeys(keys)
    if not call_seconds:
        return found
    rows, seconds = np.asarray(call_seconds, np.float64).T
    per_plan_ms = 1000 * seconds.sum() / rows.sum()
    found["p50"] = float(1000 * np.quantile(seconds, 0.50))
    found["p95"] = float(1000 * np.quantile(seconds, 0.95))
    found["per_second_of_motion"] = float(per_plan_ms * rate_hz / executed)
    found["rows"] = float(rows.mean())
    found["calls"] = len(seconds)
    median = median_interval(1000 * seconds)
    if median is not None:
        found["p50_low"] = median.low
        found["p50_high"] = median.high
    return found
