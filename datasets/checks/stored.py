"""Checks of what a foreign format says about itself: its files, and its own statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import FloatArray
from .finding import ChecksFiles, Finding, StoresStatistics
from .reading import Episode, Subject

TOLERANCE = 1e-3
"""Share of the range: what float32 sums over millions of steps lose is below."""


def check_files(subject: Subject) -> Iterator[Finding]:
    """What the format itself finds wrong with its files."""
    if isinstance(subject.dataset, ChecksFiles):
        yield from subject.dataset.check_files()


class Moments:
    """Least, greatest, mean and standard deviation of every key, computed as episodes pass."""

    def __init__(self) -> None:
        self._count = 0
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
        self._count += len(values)
        self._sum += moved.sum(0)
        self._squares += (moved**2).sum(0)
        self._least = np.minimum(self._least, values.min(0))
        self._greatest = np.maximum(self._greatest, values.max(0))

    def compute(self) -> dict[str, FloatArray]:
        """min, max, mean and std, each (D,)."""
        assert self._shift is not None
        mean = self._sum / self._count
        variance = np.maximum(self._squares / self._count - mean**2, 0)
        return {
            "min": self._least,
            "max": self._greatest,
            "mean": self._shift + mean,
            "std": np.sqrt(variance),
        }


class StoredStatistics:
    """Statistics in the files against those of the numbers; only of a whole data set."""

    def __init__(self, subject: Subject) -> None:
        self._stored: Mapping[str, Mapping[str, NDArray[Any]]] = {}
        if isinstance(subject.dataset, StoresStatistics):
            self._stored = subject.dataset.stored_statistics()
        self._moments = {key: Moments() for key in self._stored}
        self._seen = 0
        self._episodes = len(subject.ends)

    def look(self, episode: Episode) -> None:
        """Add the keys that have statistics."""
        self._seen += 1
        for key, moments in self._moments.items():
            values = episode.sound.get(key)
            if values is not None and values.size:
                moments.add(values)

    def report(self) -> Iterator[Finding]:
        """Keys whose statistics are others."""
        if self._seen < self._episodes:
            return
        for key, stored in self._stored.items():
            yield from self._compare(key, stored)

    def _compare(self, key: str, stored: Mapping[str, NDArray[Any]]) -> Iterator[Finding]:
        try:
            found = self._moments[key].compute()
        except AssertionError:
            return
        reach = np.maximum(found["max"] - found["min"], 1e-6 + np.abs(found["mean"]) * 1e-3)
        wrong: dict[str, float] = {}
        for name, values in found.items():
            if name in stored and np.size(stored[name]) == len(values):
                difference = np.abs(np.ravel(stored[name]).astype(np.float64) - values) / reach
                if not (difference <= TOLERANCE).all():
                    wrong[name] = float(np.nan_to_num(difference, nan=np.inf).max())
        if wrong:
            said = ", ".join(f"{name} by {share:.2g}" for name, share in wrong.items())
            message = (
                f"the stored statistics of {key} are not those of its numbers: "
                f"{said} (shares of its range)"
            )
            repair = "any conversion computes them anew"
            yield Finding("statistics", "warning", message, key, (), wrong, repair)
