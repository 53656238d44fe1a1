"""Checks of a key's numbers: constant and nearly constant ones, outliers, saturated actions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import FloatArray
from ..episodes import ACTION
from ..statistics import find_constants
from .finding import Finding, list_episodes
from .reading import Episode, RowSample, Subject, name_dim

OUTLIER_RANGES = 10.0
"""An outlier lies this many times the 1 % to 99 % range beyond it: no motion goes there."""
TINY = 1e-3
"""A state whose scale is below this share of its size, or of 1, is blown up by the normaliser."""
SATURATED_SHARE = 0.04
"""Share of the steps at one limit: a demonstrator who is cut off so often asked for more."""
FEW_VALUES = 10
"""A number with at most so many values is discrete: a gripper is at its limit by design."""


@dataclass(frozen=True)
class Far:
    """A number outside of the usual, and its step over all episodes."""

    episode: int
    step: int
    value: float


class Extremes:
    """Least and greatest numbers of a key, by episode, and an even sample of its rows."""

    def __init__(self) -> None:
        self.sample = RowSample()
        self.episodes: list[int] = []
        self._starts: list[int] = []
        self._lows: list[FloatArray] = []
        self._highs: list[FloatArray] = []
        self._low_steps: list[NDArray[Any]] = []
        self._high_steps: list[NDArray[Any]] = []

    def add(self, episode: Episode, values: FloatArray) -> None:
        """Take an episode's (n, D)."""
        self.sample.add(values)
        self.episodes.append(episode.number)
        self._starts.append(episode.start)
        self._lows.append(values.min(0))
        self._highs.append(values.max(0))
        self._low_steps.append(values.argmin(0))
        self._high_steps.append(values.argmax(0))

    def find_least(self) -> FloatArray:
        """(D,)."""
        return np.min(self._lows, axis=0)

    def find_greatest(self) -> FloatArray:
        """(D,)."""
        return np.max(self._highs, axis=0)

    def find_far(self, dim: int, low: float, high: float) -> list[Far]:
        """The episodes that leave [low, high]."""
        found: list[Far] = []
        for row, number in enumerate(self.episodes):
            if self._lows[row][dim] < low:
                step = self._starts[row] + int(self._low_steps[row][dim])
                found.append(Far(number, step, float(self._lows[row][dim])))
            elif self._highs[row][dim] > high:
                step = self._starts[row] + int(self._high_steps[row][dim])
                found.append(Far(number, step, float(self._highs[row][dim])))
        return found


class Ranges:
    """The numbers of actions and states."""

    def __init__(self, subject: Subject) -> None:
        self._dataset = subject.dataset
        self._keys: dict[str, Extremes] = {}
        self._limits = Limits()

    def look(self, episode: Episode) -> None:
        """Note extremes and a sample."""
        for key, values in episode.sound.items():
            if values.shape[1]:
                self._keys.setdefault(key, Extremes()).add(episode, values)
                if key == ACTION:
                    self._limits.add(values)

    def report(self) -> Iterator[Finding]:
        """Key by key."""
        for key, extremes in self._keys.items():
            yield from self._report_key(key, extremes)

    def _report_key(self, key: str, extremes: Extremes) -> Iterator[Finding]:
        least = extremes.find_least()
        greatest = extremes.find_greatest()
        constant = find_constants(least, greatest, commanded=key == ACTION)
        shape = (len(least),)
        if key != ACTION:
            shape = tuple(self._dataset.obs_spec.keys[key].shape)
        if constant.any():
            yield self._describe_constants(key, constant, least)
        if key != ACTION:
            known = self._dataset.obs_spec.keys[key].precisions().ravel() > 0
            yield from _find_tiny(key, shape, least, greatest, constant | known)
        yield from _find_outliers(key, shape, extremes)
        if key == ACTION:
            yield from self._find_saturated(extremes)

    def _describe_constants(
        self, key: str, constant: NDArray[np.bool_], values: FloatArray
    ) -> Finding:
        """Which numbers never change; of actions what they are, since a policy commands that."""
        dims = np.flatnonzero(constant)
        said = f"{key} never changes in dimensions {dims.tolist()}"
        if key == ACTION:
            names = self._dataset.action_spec.dims
            always = [f"{names[dim].name} is always {values[dim]:g}" for dim in dims]
            said = f"{said}: {', '.join(always)}; a policy will command exactly this"
        return Finding("constant", "warning", said, key)

    def _find_saturated(self, extremes: Extremes) -> Iterator[Finding]:
        """Actions that stand at a limit for long; discrete ones do so by design."""
        rows = extremes.sample.rows()
        for dim, (value, share) in enumerate(self._limits.find_shares()):
            spec = self._dataset.action_spec.dims[dim]
            discrete = spec.kind == "discrete" or len(np.unique(rows[:, dim])) <= FEW_VALUES
            if share > SATURATED_SHARE and not discrete:
                message = (
                    f"{spec.name} is at its limit {value:g} in {share:.0%} of the steps: "
                    "what the demonstrator asked for was cut off"
                )
                numbers = {"share": share, "limit": value}
                yield Finding("saturated", "warning", message, ACTION, numbers=numbers)


class Limits:
    """How often each number stands exactly at its least and at its greatest value."""

    def __init__(self) -> None:
        self._steps = 0
        self._least: FloatArray | None = None
        self._greatest = np.zeros(0)
        self._at_least = np.zeros(0)
        self._at_greatest = np.zeros(0)

    def add(self, values: FloatArray) -> None:
        """Count in (n, D)."""
        if self._least is None:
            self._least = np.full(values.shape[1], np.inf)
            self._greatest = np.full(values.shape[1], -np.inf)
            self._at_least = np.zeros(values.shape[1])
            self._at_greatest = np.zeros(values.shape[1])
        self._steps += len(values)
        least = np.minimum(self._least, values.min(0))
        greatest = np.maximum(self._greatest, values.max(0))
        self._at_least = self._at_least * (least == self._least) + (values == least).sum(0)
        self._at_greatest *= greatest == self._greatest
        self._at_greatest += (values == greatest).sum(0)
        self._least, self._greatest = least, greatest

    def find_shares(self) -> Iterator[tuple[float, float]]:
        """Per number the limit at which it stands more often, and the share of the steps."""
        if self._least is None:
            return
        for dim in range(len(self._least)):
            if self._at_least[dim] > self._at_greatest[dim]:
                yield float(self._least[dim]), float(self._at_least[dim] / self._steps)
            else:
                yield float(self._greatest[dim]), float(self._at_greatest[dim] / self._steps)


def _find_tiny(
    key: str,
    shape: tuple[int, ...],
    least: FloatArray,
    greatest: FloatArray,
    left_out: NDArray[np.bool_],
) -> Iterator[Finding]:
    """States that hardly change: the normaliser makes their range as large as every other."""
    half = (greatest - least) / 2
    tiny = (half < TINY * np.maximum(1.0, np.abs(greatest + least) / 2)) & ~left_out
    for dim in np.flatnonzero(tiny):
        message = (
            f"{name_dim(key, int(dim), shape)} stays between {least[dim]:g} and "
            f"{greatest[dim]:g}: being off by {10 * half[dim]:.2g} looks like 10 normalised units "
            "to a policy; check its unit, or leave it out if only noise moves it"
        )
        yield Finding("nearly-constant", "warning", message, key, numbers={"dim": float(dim)})


def _find_outliers(key: str, shape: tuple[int, ...], extremes: Extremes) -> Iterator[Finding]:
    """Single numbers far from all others of their dimension."""
    # The quantiles are rounded inwards: one outlier in few steps must not move them.
    rows = extremes.sample.rows()
    low = np.quantile(rows, 0.01, axis=0, method="higher")
    high = np.quantile(rows, 0.99, axis=0, method="lower")
    for dim in np.flatnonzero(high > low):
        reach = OUTLIER_RANGES * (high[dim] - low[dim])
        far = extremes.find_far(int(dim), low[dim] - reach, high[dim] + reach)
        if not far:
            continue
        step = far[0].step
        value = far[0].value
        episodes = [one.episode for one in far]
        message = (
            f"{name_dim(key, int(dim), shape)} is {value:g} at step {step}; "
            f"98 % lie in [{low[dim]:g}, {high[dim]:g}]; "
            f"it lies far outside in episodes {list_episodes(episodes)}"
        )
        numbers = {"dim": float(dim), "value": value, "step": float(step)}
        repair = "leave the episodes out (what=outliers)"
        yield Finding("outlier", "warning", message, key, episodes, numbers, repair)
