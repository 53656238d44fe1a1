"""Two results of evaluations, paired by seed: what is hard about a scene cancels out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .intervals import Interval, McNemar, mcnemar, paired_bootstrap
from .results import reports_success


@dataclass(frozen=True)
class PairedDifference:
    """How a result differs from a base: `success` by McNemar's test, None where one does not report
    it, and `score`.

    `seeds` are those that both have, `episodes` those of the longer result.
    """

    seeds: int
    episodes: int
    success: McNemar | None
    score: Interval


def pair_results(result: Mapping[str, Any], base: Mapping[str, Any]) -> PairedDifference:
    """The difference of two results over the seeds that both have.

    Raises DataError where there are none.
    """
    success = None
    if reports_success(result) and reports_success(base):
        success = compare_successes(result, base)
    score = paired_bootstrap(*_pair_values(result, base, "score"))
    episodes = max(len(list_episodes(result)), len(list_episodes(base)))
    return PairedDifference(len(share_seeds(result, base)), episodes, success, score)


def compare_successes(result: Mapping[str, Any], base: Mapping[str, Any]) -> McNemar:
    """McNemar's test of the successes on the seeds that both have.

    Raises DataError where there are none.
    """
    return mcnemar(*_pair_values(result, base, "success"))


def pair_numbers(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Interval | None:
    """The mean difference of a number by seed, on the seeds that both have; None without any."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    return paired_bootstrap([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])


def read_jerks(result: Mapping[str, Any]) -> dict[int, float]:
    """The RMS jerk of each episode by seed; empty for a result that holds only that of all."""
    episodes = result["per_episode"]
    jerks = result.get("jerk_per_episode") or []
    found: dict[int, float] = {}
    if len(jerks) != len(episodes):
        return found
    for episode, jerk in zip(episodes, jerks, strict=True):
        if jerk is not None:
            found[episode["seed"]] = jerk
    return found


def share_seeds(result: Mapping[str, Any], base: Mapping[str, Any]) -> list[int]:
    """Seeds that both results have, in order."""
    return sorted(list_episodes(result).keys() & list_episodes(base).keys())


def list_episodes(result: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """The episodes of a result by seed."""
    found = {}
    for episode in result["per_episode"]:
        found[episode["seed"]] = episode
    return found


def _pair_values(
    result: Mapping[str, Any], base: Mapping[str, Any], key: str
) -> tuple[list[Any], list[Any]]:
    """What both results say of the seeds that both have, in the same order."""
    ours, theirs = list_episodes(result), list_episodes(base)
    first, second = [], []
    for seed in share_seeds(result, base):
        first.append(ours[seed][key])
        second.append(theirs[seed][key])
    return first, second
