"""Checks of episode ends and lengths, of parts that cannot be read, and of labels of success."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..episodes import first_not_finite, lengths_of
from ..windows import LEAST_STEPS
from .finding import Finding, list_episodes
from .reading import Episode, Subject

NEAR_EMPTY = 0.1
"""Share of the median length: demonstrations of one task vary by less than a factor of ten."""
DROP = "leave the episodes out (what=nan)"


def check_ends(subject: Subject) -> Iterator[Finding]:
    """Ends and the numbers of steps; what is wrong with them forbids to look further."""
    ends = subject.ends
    if len(ends) == 0:
        yield Finding("no-episodes", "error", "there are no episodes")
        return
    lengths = lengths_of(ends)
    wrong = np.flatnonzero(lengths <= 0)
    for number in wrong[:3]:
        message = f"episode {number} ends at step {ends[number]}, not after the one before it"
        repair = "rebuild the ends (what=ends)"
        yield Finding("ends", "error", message, episodes=(int(number),), repair=repair)
    if 0 < lengths.max() < LEAST_STEPS:
        message = (
            f"no episode has {LEAST_STEPS} steps, and training needs that many: "
            "one observation and one action teach nothing"
        )
        yield Finding("no-long-episode", "error", message)


def check_lengths(subject: Subject) -> Iterator[Finding]:
    """Episodes that are too short to train on, or far shorter than the others."""
    lengths = lengths_of(subject.ends)
    short = np.flatnonzero(lengths < LEAST_STEPS).tolist()
    if short:
        message = (
            f"episode {short[0]} has {lengths[short[0]]} step: "
            f"training leaves it out, it needs {LEAST_STEPS}"
        )
        if len(short) > 1:
            message += f"; so have episodes {list_episodes(short[1:])}"
        repair = "leave them out (what=short)"
        yield Finding("episode-short", "warning", message, episodes=short, repair=repair)
    usual = float(np.median(lengths))
    near = np.flatnonzero((lengths >= LEAST_STEPS) & (lengths < NEAR_EMPTY * usual)).tolist()
    if near:
        message = (
            f"{len(near)} episodes have less than {NEAR_EMPTY:.0%} of the median of {usual:g} "
            f"steps: {list_episodes(near)}"
        )
        yield Finding("episode-near-empty", "warning", message, episodes=near)


class Readable:
    """Parts that cannot be read, have too few steps, or hold NaN."""

    def __init__(self, subject: Subject) -> None:
        self._unread: dict[str, tuple[list[int], str]] = {}
        self._few: dict[str, tuple[list[int], str]] = {}
        self._bad: dict[str, tuple[list[int], str]] = {}

    def look(self, episode: Episode) -> None:
        """Note what is wrong with each key."""
        for key, problem in episode.problems.items():
            self._unread.setdefault(key, ([], problem))[0].append(episode.number)
        for key, values in episode.values.items():
            if len(values) != episode.length:
                said = (
                    f"{key} has {len(values)} steps in episode {episode.number}, "
                    f"which has {episode.length}"
                )
                self._few.setdefault(key, ([], said))[0].append(episode.number)
            elif not _is_finite(values):
                self._bad.setdefault(key, ([], _place(key, values, episode.start)))[0].append(
                    episode.number
                )

    def report(self) -> Iterator[Finding]:
        """One finding a key."""
        for key, (episodes, said) in self._unread.items():
            repair = "keep the episodes that can be read (what=unreadable)"
            yield _make("unreadable", key, said, episodes, repair)
        for key, (episodes, said) in self._few.items():
            yield _make("steps-missing", key, said, episodes, DROP)
        for key, (episodes, said) in self._bad.items():
            yield _make("not-finite", key, said, episodes, DROP)


def _is_finite(values: NDArray[np.generic]) -> bool:
    return first_not_finite(values) is None


def _place(key: str, values: NDArray[np.generic], start: int) -> str:
    """Where the first NaN is, with steps counted over all episodes."""
    found = first_not_finite(values)
    assert found is not None
    place, what = found
    index = ", ".join(str(number) for number in (place[0] + start, *place[1:]))
    return f"{key}[{index}] is {what} (steps counted over all episodes)"


def _make(code: str, key: str, said: str, episodes: list[int], repair: str) -> Finding:
    message = said
    if len(episodes) > 1:
        message = f"{said}; so it is in episodes {list_episodes(episodes[1:])}"
    return Finding(code, "error", message, key, episodes, repair=repair)


class Success:
    """Labels of success that say nothing."""

    def __init__(self, subject: Subject) -> None:
        self._episodes = 0
        self._true = 0

    def look(self, episode: Episode) -> None:
        """Count the episodes that are labelled, and those that succeed."""
        values = episode.values.get("success")
        if values is not None:
            self._episodes += 1
            self._true += int(values.any())

    def report(self) -> Iterator[Finding]:
        """A label that is never true was never set."""
        if self._episodes and not self._true:
            message = (
                f"success is never true in {self._episodes} episodes: "
                "demonstrations mostly succeed, so nobody has labelled it"
            )
            yield Finding("success-never", "warning", message, "success")
