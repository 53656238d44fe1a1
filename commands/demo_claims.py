"""Sentences of the demo's page: each difference with its interval, paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..evaluation.intervals import Interval, bootstrap_mean
from ..evaluation.pairing import (
    compare_successes,
    list_episodes,
    pair_numbers,
    read_jerks,
    share_seeds,
)
from .demo_rows import Result

Read = Callable[[Result], dict[int, float]]
"""A number of every episode of a result, by seed."""
MINUS = "\u2212"


def read_seconds(result: Result) -> dict[int, float]:
    """How long each episode lasted [s]; one that fails lasts as long as it may."""
    found: dict[int, float] = {}
    for episode in result["per_episode"]:
        found[episode["seed"]] = episode["steps"] / result["rate_hz"]
    return found


@dataclass(frozen=True)
class Measure:
    """A number of every episode: what it is called, its unit, words for more and for less of it."""

    read: Read
    noun: str
    unit: str
    digits: int
    more: str
    less: str


SECONDS = Measure(read_seconds, "time to the end", " s", 1, "takes longer", "is done earlier")
JERK = Measure(read_jerks, "jerk", " / s\u00b2", 0, "is less smooth", "is smoother")


def estimate(result: Result, read: Read) -> Interval | None:
    """The mean of a number over the episodes with its interval."""
    values = list(read(result).values())
    if not values:
        return None
    return bootstrap_mean(values)


def subtract(result: Result, base: Result, read: Read) -> Interval | None:
    """The mean difference of a number on the seeds that both results have it for."""
    return pair_numbers(read(result), read(base))


def subtract_success(result: Result, base: Result) -> Interval:
    """The difference of the success rates in percentage points, paired by seed."""
    difference = compare_successes(result, base).difference
    return Interval(*(100 * value for value in difference))


def describe_success(result: Result, name: str, base: Result, base_name: str) -> str:
    """One sentence on the successes of two results on the same seeds."""
    difference = subtract_success(result, base)
    seeds = share_seeds(result, base)
    rates = f"{_percent(result, seeds)} against {_percent(base, seeds)}"
    words = _judge(difference, "succeeds more often", "succeeds less often")
    shown = f"({rates}; {write_interval(difference, 0, ' points')}; n = {len(seeds)})"
    if words is None:
        return f"{name} and {base_name}: no difference in success shown {shown}."
    return f"{name} {words} than {base_name} {shown}."


def describe_number(
    measure: Measure, result: Result, name: str, base: Result, base_name: str
) -> str:
    """One sentence on a number of two results on the same seeds; empty where none was measured."""
    difference = subtract(result, base, measure.read)
    if difference is None:
        return ""
    count = len(measure.read(result).keys() & measure.read(base).keys())
    shown = f"({write_interval(difference, measure.digits, measure.unit)}; n = {count})"
    judged = _judge(difference, measure.more, measure.less)
    if judged is None:
        return f"{name} and {base_name}: no difference in {measure.noun} shown {shown}."
    return f"{name} {judged} than {base_name} {shown}."


def write_interval(value: Interval, digits: int, unit: str) -> str:
    """A difference with its interval: `−2 points [−9, +5]`."""
    numbers = [f"{number:+.{digits}f}".replace("-", MINUS) for number in value]
    return f"{numbers[0]}{unit} [{numbers[1]}, {numbers[2]}]"


def _judge(difference: Interval, more: str, less: str) -> str | None:
    """The words for a difference; None where its interval includes 0."""
    if difference.low > 0:
        return more
    if difference.high < 0:
        return less
    return None


def _percent(result: Result, seeds: Sequence[int]) -> str:
    """The success rate on some seeds."""
    episodes = list_episodes(result)
    successes = sum(bool(episodes[seed]["success"]) for seed in seeds)
    return f"{100 * successes / len(seeds):.0f} %"
