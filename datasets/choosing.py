"""Chooses episodes: by their numbers, by what they hold, and by chance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import Actor, BoolArray, ConfigError, DataError, IntArray, bytes_to_text, unknown
from .episodes import Dataset, check_choice, lengths_of
from .merging import INSTRUCTION
from .selection import read_origin

RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


@dataclass(frozen=True)
class Wish:
    """What an episode must be to be chosen; None and empty ask nothing."""

    success: bool | None = None
    """Whether it was successful in one of its steps."""
    min_steps: int | None = None
    max_steps: int | None = None
    min_score: float | None = None
    """Of its last step."""
    actor: str | None = None
    """A name of `spec.Actor`, in small letters, that acted in one of its steps."""
    task: str | None = None
    """Its instruction, or the data set's task where it has none."""
    episodes: str = ""
    """Numbers and ranges, as in 0-9,17."""


def choose(dataset: Dataset, wish: Wish) -> IntArray:
    """The numbers of the episodes that fulfil every wish, ascending.

    Raises DataError where the data set lacks what a wish is about, and ConfigError for one that
    cannot be read.
    """
    kept = np.ones(len(dataset.episode_ends), bool)
    if len(kept) == 0:
        return np.flatnonzero(kept)
    for fits in _judge(dataset, wish):
        kept &= fits
    return np.flatnonzero(kept)


def _judge(dataset: Dataset, wish: Wish) -> Iterator[BoolArray]:
    """Which episodes fulfil each wish that is set, (E,)."""
    lengths = lengths_of(dataset.episode_ends)
    if wish.success is not None:
        yield find_successes(dataset) == wish.success
    if wish.min_steps is not None:
        yield lengths >= wish.min_steps
    if wish.max_steps is not None:
        yield lengths <= wish.max_steps
    if wish.min_score is not None:
        yield _read_extra(dataset, "score")[dataset.episode_ends - 1] >= wish.min_score
    if wish.actor is not None:
        acted = _read_extra(dataset, "actor") == read_actor(wish.actor)
        yield np.logical_or.reduceat(acted, dataset.episode_ends - lengths)
    if wish.task is not None:
        yield _judge_task(dataset, wish.task)
    if wish.episodes:
        fits = np.zeros(len(lengths), bool)
        fits[read_numbers(wish.episodes, len(lengths))] = True
        yield fits


def _judge_task(dataset: Dataset, task: str) -> BoolArray:
    texts = np.array(list_instructions(dataset))
    fits = texts == task
    if not fits.any():
        raise ConfigError(unknown("task", task, sorted(set(texts.tolist()))))
    return fits


def find_successes(dataset: Dataset) -> BoolArray:
    """Which episodes were successful in one of their steps, (E,)."""
    starts = dataset.episode_ends - lengths_of(dataset.episode_ends)
    return np.logical_or.reduceat(_read_extra(dataset, "success"), starts)


def list_instructions(dataset: Dataset) -> list[str]:
    """What each episode is told to do: its instruction, or the data set's task."""
    ends = dataset.episode_ends
    if INSTRUCTION not in dataset.obs_spec.keys:
        return [read_origin(dataset).task] * len(ends)
    found: list[str] = []
    for start in ends - lengths_of(ends):
        found.append(bytes_to_text(dataset.rows(INSTRUCTION, int(start), int(start) + 1)[0]))
    return found


def read_actor(name: str) -> Actor:
    """Who acts, by name; ConfigError for an unknown one."""
    names = {actor.name.lower(): actor for actor in Actor}
    if name not in names:
        raise ConfigError(unknown("actor", name, list(names)))
    return names[name]


def read_numbers(text: str, count: int) -> IntArray:
    """Numbers and ranges like 0-9,17 of `count` episodes, ascending, each once.

    Raises ConfigError for other text, and DataError for an episode that is not there.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = RANGE.fullmatch(part.strip())
        if match is None:
            raise ConfigError(
                f"episodes={text} is not understood at {part!r}: numbers and ranges, as in 0-9,17"
            )
        first = int(match[1])
        last = int(match[2] or first)
        if not first <= last < count:
            raise DataError(
                f"there are no episodes {part}; the data set has {count} (0 to {count - 1})"
            )
        found.update(range(first, last + 1))
    return np.array(sorted(found), np.int64)


def _read_extra(dataset: Dataset, key: str) -> NDArray[Any]:
    check_choice(key, dataset.keys)
    return dataset.array(key)
