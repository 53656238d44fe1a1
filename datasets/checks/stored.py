"""Checks of what a foreign format says about itself: its files, and its own statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, FloatArray
from .finding import (
    ChecksFiles,
    Finding,
    StoresEpisodeStatistics,
    StoresStatistics,
    list_episodes,
)
from .reading import Episode, Subject

TOLERANCE = 1e-3
"""Share of the range."""
HALF_UNIT = 2**-24
"""What rounding to float32 loses of a number."""
LONGEST_SUM = 10_000
"""Steps that formats sum at once: those of an episode."""
REPAIR = "any conversion computes them anew"


def check_files(subject: Subject) -> Iterator[Finding]:
    """What the format itself finds wrong with its files."""
    if isinstance(subject.dataset, ChecksFiles):
        yield from subject.dataset.check_files()


class Moments:
    """Least, greatest, mean and standard deviation of every key, computed as episodes pass."""

    def __init__(self) -> None:
        self.count = 0
        self._shift: FloatArray | None = None
        self._sum = np.zeros(0)
        self._squares = np.zeros(0)
        self._least = np.zeros(0)
        self._greatest = np.zeros(0)

    def add(self, values: FloatArray) -> None:
        """Take (n, D); sums are of differences from the first mean, so that they stay exact."""
        shift = self._shift
        if shift is None:
            shift = values.mean(0)
            self._shift = shift
            self._sum = np.zeros(values.shape[1])
            self._squares = np.zeros(values.shape[1])
            self._least = values.min(0)
            self._greatest = values.max(0)
        moved = values - shift
        self.count += len(values)
        self._sum += moved.sum(0)
        self._squares += (moved**2).sum(0)
        self._least = np.minimum(self._least, values.min(0))
        self._greatest = np.maximum(self._greatest, values.max(0))

    def compute(self) -> dict[str, FloatArray]:
        """min, max, mean and std, each (D,)."""
        assert self._shift is not None
        mean = self._sum / self.count
        variance = np.maximum(self._squares / self.count - mean**2, 0)
        return {
            "min": self._least,
            "max": self._greatest,
            "mean": self._shift + mean,
            "std": np.sqrt(variance),
        }


class StoredStatistics:
    """Statistics in the files against those of the numbers.

    Those of the whole are compared where every episode was read, those of an episode as it passes.
    """

    def __init__(self, subject: Subject) -> None:
        self._whole: Mapping[str, Mapping[str, NDArray[Any]]] = {}
        self._of_episodes: StoresEpisodeStatistics | None = None
        self._problem = ""
        self._wrong: dict[str, dict[int, dict[str, float]]] = {}
        if isinstance(subject.dataset, StoresEpisodeStatistics):
            self._of_episodes = subject.dataset
        if isinstance(subject.dataset, StoresStatistics):
            try:
                self._whole = subject.dataset.stored_statistics()
            except DataError as error:
                self._problem = str(error)
        self._moments = {key: Moments() for key in self._whole}
        self._seen = 0
        self._episodes = len(subject.ends)

    def look(self, episode: Episode) -> None:
        """Add the keys that have statistics, and compare the episode's own."""
        self._seen += 1
        for key, moments in self._moments.items():
            values = episode.sound.get(key)
            if values is not None and values.size:
                moments.add(values)
        if self._of_episodes is None:
            return
        try:
            stored = self._of_episodes.episode_statistics(episode.number)
        except DataError as error:
            self._of_episodes = None
            self._problem = str(error)
            return
        for key, measures in stored.items():
            values = episode.sound.get(key)
            if values is not None and values.size:
                moments = Moments()
                moments.add(values)
                wrong = find_differences(moments, measures)
                if wrong:
                    self._wrong.setdefault(key, {})[episode.number] = wrong

    def report(self) -> Iterator[Finding]:
        """Keys whose statistics are others."""
        if self._problem:
            message = f"the stored statistics cannot be read: {self._problem}"
            yield Finding("statistics", "warning", message, repair=REPAIR)
        for key, episodes in self._wrong.items():
            numbers = list(episodes)
            wrong = episodes[numbers[0]]
            message = (
                f"the stored statistics of {key} in episode {numbers[0]} are not those of its "
                f"numbers: {_list_differences(wrong)}"
            )
            if len(numbers) > 1:
                message += f"; the like is so in episodes {list_episodes(numbers[1:])}"
            yield Finding("statistics", "warning", message, key, numbers, wrong, REPAIR)
        if self._seen < self._episodes:
            return
        for key, stored in self._whole.items():
            if self._moments[key].count:
                wrong = find_differences(self._moments[key], stored)
                if wrong:
                    message = (
                        f"the stored statistics of {key} are not those of its numbers: "
                        f"{_list_differences(wrong)}"
                    )
                    yield Finding("statistics", "warning", message, key, (), wrong, REPAIR)


def find_differences(moments: Moments, stored: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """The measures that are stored otherwise, and by which share of the range.

    What is lost where steps were summed in float32 one after the other is no difference: n times
    half a unit in the last place of the greatest number, and n at most LONGEST_SUM.
    """
    found = moments.compute()
    size = np.maximum(np.abs(found["min"]), np.abs(found["max"]))
    reach = np.maximum(found["max"] - found["min"], 1e-6 + np.abs(found["mean"]) * 1e-3)
    rounding = HALF_UNIT * min(moments.count, LONGEST_SUM)
    slack = rounding * size
    variance = found["std"] ** 2
    bounds = {
        "min": (found["min"], found["min"]),
        "max": (found["max"], found["max"]),
        "mean": (found["mean"] - slack, found["mean"] + slack),
        "std": (
            np.sqrt(np.maximum(variance - rounding * size**2, 0)),
            np.sqrt(variance + rounding * size**2),
        ),
    }
    wrong: dict[str, float] = {}
    for name, (low, high) in bounds.items():
        if name in stored and np.size(stored[name]) == len(low):
            said = np.ravel(stored[name]).astype(np.float64)
            off = np.maximum(low - said, said - high) / reach
            if not (off <= TOLERANCE).all():
                wrong[name] = float(np.nan_to_num(off, nan=np.inf).max())
    return wrong


def _list_differences(wrong: Mapping[str, float]) -> str:
    said = ", ".join(f"{name} by {share:.2g}" for name, share in wrong.items())
    return f"{said} (shares of its range)"
