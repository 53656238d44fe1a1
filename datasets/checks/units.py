"""Checks of units: actions against the states that they follow, episodes against each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...spec import FloatArray
from ..episodes import ACTION
from .finding import Finding, list_episodes
from .reading import Episode, RowSample, Subject

SCALE = 20.0
"""An episode whose numbers are so many times those of the others has another unit: above what
tasks vary by, below 57.3 (degrees for radians) and 1000 (millimetres for metres)."""
FACTORS: Mapping[str, float] = {
    "degrees, radians": 180 / math.pi,
    "millimetres, metres": 1000.0,
    "centimetres, metres": 100.0,
}
FACTOR_SHARE = 0.1
"""How near a slope must be to a factor."""
FOLLOWS = 0.95
"""Correlation with a state above which an action is the state to be reached."""
OFFSET_RANGE = 0.25
"""An episode's actions are this share of the states' range away from what they follow ..."""
OFFSET_SPREAD = 8.0
"""... and so many times as far as usual (median absolute deviation)."""
RADIANS = 4 * math.pi
"""A joint turns by at most two turns either way; 30 degrees in a set of radians are more."""
LEAST_EPISODES = 4
MOST_FITS = 300
"""Episodes from which it is found what follows what."""
MOST_PAIRS = 10_000
"""Pairs of an action and a state that are compared; a set with more is left out."""


@dataclass(frozen=True)
class Follow:
    """An action number, the state's number that it follows, and the slope between them."""

    action: int
    state: int
    slope: float


class Units:
    """Sizes of actions and states."""

    def __init__(self, subject: Subject) -> None:
        self._spec = subject.dataset.action_spec
        self._states = subject.states
        self._sizes: dict[str, dict[int, float]] = {}
        self._sample = RowSample()
        self._means: list[tuple[int, FloatArray]] = []
        self._fits: list[tuple[FloatArray, FloatArray]] = []
        self._width = -1

    def look(self, episode: Episode) -> None:
        """Note sizes, and actions beside states."""
        for key, values in episode.sound.items():
            if values.size:
                size = float(np.sqrt((values**2).mean()))
                self._sizes.setdefault(key, {})[episode.number] = size
        if all(key in episode.sound for key in (ACTION, *self._states)) and self._states:
            parts = [episode.sound[key] for key in (ACTION, *self._states)]
            joined = np.concatenate(parts, axis=1)
            self._width = parts[0].shape[1]
            if self._width * (joined.shape[1] - self._width) > MOST_PAIRS:
                return
            self._sample.add(joined)
            self._means.append((episode.number, joined.mean(0)))
            if len(self._fits) < MOST_FITS and episode.length > 2:
                self._fits.append(_fit(joined, self._width))

    def report(self) -> Iterator[Finding]:
        """Episodes of another scale, then declared units, then actions against states."""
        for key, sizes in self._sizes.items():
            yield from _report_scale(key, sizes)
        if self._means:
            rows = self._sample.rows()
            yield from self._report_declared(rows)
            follows = _find_follows(self._fits)
            yield from self._report_factor(follows)
            yield from self._report_offsets(rows, follows)

    def _report_declared(self, rows: FloatArray) -> Iterator[Finding]:
        """Radians that no joint can reach."""
        for dim, spec in enumerate(self._spec.dims):
            largest = float(np.quantile(np.abs(rows[:, dim]), 0.99))
            if spec.unit == "rad" and largest > RADIANS:
                message = (
                    f"{spec.name} is given in radians and reaches {largest:.3g}: these are degrees"
                )
                yield Finding("action-unit", "warning", message, ACTION, (), {"largest": largest})

    def _report_factor(self, follows: list[Follow]) -> Iterator[Finding]:
        """Most followed states have a slope that is a known factor between units."""
        if not follows:
            return
        slopes = [abs(math.log(follow.slope)) for follow in follows]
        for units, factor in FACTORS.items():
            near = [abs(slope - math.log(factor)) < FACTOR_SHARE for slope in slopes]
            if np.mean(near) > 0.5:
                slope = float(np.median([follow.slope for follow in follows]))
                message = (
                    f"actions follow the states with a factor of {slope:.4g}: "
                    f"they have different units ({units})"
                )
                yield Finding("action-unit", "warning", message, ACTION, (), {"factor": slope})

    def _report_offsets(self, rows: FloatArray, follows: list[Follow]) -> Iterator[Finding]:
        """Episodes whose actions lie far from the states that they follow."""
        if len(self._means) < LEAST_EPISODES:
            return
        means = np.array([mean for _, mean in self._means])
        found: dict[int, float] = {}
        for follow in follows:
            state = rows[:, self._width + follow.state]
            reach = float(np.quantile(state, 0.99) - np.quantile(state, 0.01))
            offset = means[:, follow.action] - follow.slope * means[:, self._width + follow.state]
            offset = np.abs(offset - np.median(offset)) / (follow.slope * reach)
            usual = float(np.median(offset))
            far = (offset > OFFSET_RANGE) & (offset > OFFSET_SPREAD * usual)
            for row in np.flatnonzero(far):
                number = self._means[row][0]
                found[number] = max(found.get(number, 0.0), float(offset[row]))
        if found:
            worst = max(found, key=lambda number: found[number])
            message = (
                f"actions lie far from the states that they follow in episodes "
                f"{list_episodes(sorted(found))}; the worst, episode {worst}, "
                f"by {found[worst]:.0%} of the states' range"
            )
            numbers = {"share": found[worst]}
            repair = "leave the episodes out (what=units)"
            yield Finding("action-far", "warning", message, ACTION, sorted(found), numbers, repair)


def _report_scale(key: str, sizes: dict[int, float]) -> Iterator[Finding]:
    """Episodes whose numbers are far larger or smaller than those of the others."""
    if len(sizes) < LEAST_EPISODES:
        return
    usual = float(np.median(list(sizes.values())))
    ratios: dict[int, float] = {}
    for number, size in sizes.items():
        if usual > 0 and size > 0 and not 1 / SCALE < size / usual < SCALE:
            ratios[number] = size / usual
    if ratios:
        worst = max(ratios, key=lambda number: abs(math.log(ratios[number])))
        message = (
            f"{key} has another scale in episodes {list_episodes(list(ratios))}: "
            f"in episode {worst} it is {ratios[worst]:.3g} times that of the others; "
            "look at its unit"
        )
        numbers = {"factor": ratios[worst]}
        repair = "leave the episodes out (what=units)"
        yield Finding("scale", "warning", message, key, tuple(ratios), numbers, repair)


def _fit(joined: FloatArray, width: int) -> tuple[FloatArray, FloatArray]:
    """Correlations of actions with states and ratios of their spreads, each (A, S)."""
    spread = joined.std(0)
    centred = (joined - joined.mean(0)) / np.where(spread > 0, spread, 1)
    correlation = centred[:, :width].T @ centred[:, width:] / len(joined)
    states = np.where(spread[width:] > 0, spread[width:], np.inf)
    return correlation, spread[:width, None] / states


def _find_follows(fits: list[tuple[FloatArray, FloatArray]]) -> list[Follow]:
    """For every action the state that it correlates best with, in the median over the episodes.

    Judged within episodes, so that an episode with a fault does not hide what follows what.
    """
    if not fits:
        return []
    correlation = np.median([fit[0] for fit in fits], axis=0)
    slopes = np.median([fit[1] for fit in fits], axis=0)
    found: list[Follow] = []
    for action in range(len(correlation)):
        state = int(np.argmax(correlation[action]))
        if correlation[action, state] > FOLLOWS:
            found.append(Follow(action, state, float(slopes[action, state])))
    return found
