"""Checks of episodes that occur twice, or nearly so, and of those on both sides of the split."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator

import numpy as np
from scipy.spatial import KDTree

from ...spec import DataError, FloatArray, IntArray
from ..windows import LEAST_STEPS, split_usable_episodes
from .finding import Finding
from .reading import Episode, Subject

POINTS = 8
"""An episode is compared by so many of its steps, evenly spread."""
PROJECTED = 12
"""Numbers that candidates are found by; the distance is then computed from all."""
NEAR = 0.05
"""Two episodes are nearly the same whose mean distance is below this share of the spread: two
demonstrations by hand are 0.2 and more apart."""
NEAR_USUAL = 0.1
"""And below this share of the usual distance to the next episode."""
LEAST_EPISODES = 8
"""So many episodes say what is usual."""
Pair = tuple[int, int]


class Copies:
    """Episodes judged by their actions and states."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._first: dict[str, int] = {}
        self._same: list[Pair] = []
        self._numbers: list[int] = []
        self._prints: list[FloatArray] = []

    def look(self, episode: Episode) -> None:
        """Note a hash and a few steps."""
        if episode.length < LEAST_STEPS or not episode.sound:
            return
        values = np.concatenate(list(episode.sound.values()), axis=1)
        digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
        first = self._first.setdefault(digest, episode.number)
        if first != episode.number:
            self._same.append((first, episode.number))
            return
        places = np.linspace(0, episode.length - 1, POINTS).round().astype(np.int64)
        self._numbers.append(episode.number)
        self._prints.append(values[places].astype(np.float32))

    def report(self) -> Iterator[Finding]:
        """Copies, near copies, and leakage by both."""
        repair = "leave the second ones out (what=duplicates)"
        if self._same:
            first, second = self._same[0]
            message = f"episode {second} is the same as episode {first}"
            yield _describe("duplicate", message, self._same, repair)
        near = self._find_near()
        if near:
            first, second = near[0]
            message = f"episode {second} is nearly the same as episode {first}"
            yield _describe("near-duplicate", message, near, repair)
        leaks = self._find_leaks([*self._same, *near])
        if leaks:
            first, second = leaks[0]
            share = self._subject.validation_share
            message = (
                f"of the episodes held out for validation (share {share:g}, seed "
                f"{self._subject.seed}) {len(leaks)} occur in training too, as episode "
                f"{first} and {second}: the validation loss says too little"
            )
            yield _describe("leakage", message, leaks, repair)

    def _find_near(self) -> list[Pair]:
        """Pairs of episodes whose numbers hardly differ."""
        widths = {part.shape for part in self._prints}
        if len(self._prints) < 2 or len(widths) > 1:
            return []
        prints = np.array(self._prints)  # (E, POINTS, D)
        spread = prints.std((0, 1))
        moving = spread > 0
        if not moving.any():
            return []
        flat = (prints[:, :, moving] / spread[moving]).reshape(len(prints), -1)
        distances, others = _find_nearest(flat)
        least = NEAR
        if len(flat) >= LEAST_EPISODES:
            least = min(NEAR, NEAR_USUAL * float(np.median(distances)))
        found: set[Pair] = set()
        for row in np.flatnonzero(distances < least):
            one = self._numbers[row]
            other = self._numbers[others[row]]
            found.add((min(one, other), max(one, other)))
        return sorted(found)

    def _find_leaks(self, pairs: list[Pair]) -> list[Pair]:
        """Pairs with one episode held out and the other one trained on."""
        if not pairs:
            return []
        subject = self._subject
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                _, held_out = split_usable_episodes(
                    subject.ends, subject.validation_share, subject.seed
                )
            except DataError:
                return []
        held = set(held_out.tolist())
        return [pair for pair in pairs if (pair[0] in held) != (pair[1] in held)]


def _find_nearest(flat: FloatArray) -> tuple[FloatArray, IntArray]:
    """Root mean square distance of each row (E, F) to the next one, and which that is."""
    projected = flat
    if flat.shape[1] > PROJECTED:
        directions = np.random.default_rng(0).normal(size=(flat.shape[1], PROJECTED))
        projected = flat @ directions
    places = np.asarray(KDTree(projected).query(projected, k=2)[1])
    own = np.arange(len(flat))
    others = np.where(places[:, 0] == own, places[:, 1], places[:, 0])
    return np.sqrt(((flat - flat[others]) ** 2).mean(1)), others


def _describe(code: str, message: str, pairs: list[Pair], repair: str) -> Finding:
    if len(pairs) > 1:
        message += f"; so it is with {len(pairs) - 1} more pairs"
    episodes = sorted({second for _, second in pairs})
    numbers = {"pairs": float(len(pairs))}
    return Finding(code, "warning", message, "", episodes, numbers, repair)
