"""Checks of cameras: black, frozen, repeating frames, or out of step with the states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...spec import FloatArray
from .finding import Finding, list_episodes
from .reading import Episode, Subject, Track, find_motion

FROZEN_SHARE = 0.2
"""Of the moving steps of an episode whose frame is the one before: the camera has stopped."""
LEAST_FROZEN = 3
"""So many frames, at least: a single one is a dropped frame."""
REPEATED_SHARE = 0.02
"""Of the moving steps: frames that were lost and filled up with the one before."""
BLANK_CONTRAST = 6.0
"""Brightest less darkest pixel [of 255]: noise of a covered sensor stays below."""
MOVING = 0.5
"""Share of the median motion above which a picture must change."""
LONGEST_LAG = 15
"""Steps that pictures and states may be apart."""
LEAST_FRAMES = 30
"""An episode with fewer says nothing about a lag."""
CHANCE = 4.0
"""Unrelated series of n steps correlate by less than this / sqrt(n) in 99.99 %."""
LAG_CORRELATION = 0.25
"""Correlation at the lag of a whole set: a camera that sees the arm reaches more."""
LAG_T = 4.0
"""Student's t over episodes for "the lag correlates better than no lag"."""
ALONE_CORRELATION = 0.35
"""The same for one episode alone."""
ALONE_GAIN = 0.12
"""It must correlate so much better than at the lag of the whole set, ..."""
ALONE_GAINS = 3.0
"""... and so many times what 90 % of the episodes gain by their own best lag, ..."""
ALONE_LAG = 2
"""... so many steps away from it."""
LEAST_EPISODES = 4
"""So many episodes say how far lags spread; of fewer each must ..."""
FEW_GAIN = 0.2
"""... gain so much correlation."""
LAG_SHARE = 6
"""The longest lag is this part of an episode: motion that repeats fits at long ones by chance."""


class Cameras:
    """What single cameras show."""

    def __init__(self, subject: Subject) -> None:
        self._states = subject.states
        self._brightest: dict[str, int] = {}
        self._frozen: dict[str, dict[int, float]] = {}
        self._repeated: dict[str, dict[int, float]] = {}
        self._blank: dict[str, dict[int, float]] = {}

    def look(self, episode: Episode) -> None:
        """Judge each camera's track."""
        motion = find_motion(episode, self._states)
        for key, track in episode.tracks.items():
            self._brightest[key] = max(self._brightest.get(key, 0), track.brightest)
            blank = float((track.contrast <= BLANK_CONTRAST).mean())
            if blank:
                self._blank.setdefault(key, {})[episode.number] = blank
            self._judge_repeats(episode.number, key, track, motion)

    def _judge_repeats(
        self, number: int, key: str, track: Track, motion: FloatArray | None
    ) -> None:
        same = track.same
        if motion is not None:
            motion = motion[: len(same)]
            moving = motion > MOVING * np.median(motion)
            same = same[moving]
        if not len(same):
            return
        share = float(same.mean())
        if share > FROZEN_SHARE and same.sum() >= LEAST_FROZEN:
            self._frozen.setdefault(key, {})[number] = share
        elif share > REPEATED_SHARE and same.sum() >= LEAST_FROZEN:
            self._repeated.setdefault(key, {})[number] = share

    def report(self) -> Iterator[Finding]:
        """Camera by camera."""
        for key, brightest in self._brightest.items():
            if brightest == 1:
                message = (
                    f"{key} holds only 0 and 1: pictures are bytes from 0 to 255, "
                    "so these are nearly black"
                )
                yield Finding("camera-range", "warning", message, key)
                continue
            said = f"{key} repeats its frames in more than {FROZEN_SHARE:.0%} of the moving steps"
            yield from _report("camera-frozen", key, said, self._frozen)
            said = f"{key} has lost frames: it repeats the one before"
            yield from _report("frames-repeated", key, said, self._repeated)
            said = f"{key} holds frames of one colour only"
            yield from _report("camera-blank", key, said, self._blank)


def _report(
    code: str, key: str, said: str, found: dict[str, dict[int, float]]
) -> Iterator[Finding]:
    shares = found.get(key)
    if shares:
        worst = max(shares, key=lambda number: shares[number])
        message = (
            f"{said}, in episodes {list_episodes(list(shares))}; "
            f"the worst, episode {worst}, in {shares[worst]:.0%} of the steps"
        )
        repair = "leave the episodes out (what=cameras)"
        numbers = {"share": shares[worst]}
        yield Finding(code, "warning", message, key, tuple(shares), numbers, repair)


@dataclass(frozen=True)
class Curve:
    """Correlation of a camera's motion with the states' at every lag, of one episode."""

    episode: int
    frames: int
    values: FloatArray
    """(2 LONGEST_LAG + 1,); a positive lag means that pictures come late."""


@dataclass(frozen=True)
class Lag:
    """Steps that pictures come late by, whether that is sure, and the correlation there."""

    steps: int
    sure: bool
    correlation: float


class OutOfStep:
    """Motion in the pictures against motion of the states, by normalised cross-correlation."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._curves: dict[str, list[Curve]] = {}

    def look(self, episode: Episode) -> None:
        """Correlate each camera of an episode that is long enough."""
        motion = find_motion(episode, self._subject.states)
        if motion is None:
            return
        for key, track in episode.tracks.items():
            energy = track.energy
            if len(energy) >= LEAST_FRAMES and len(energy) <= len(motion) and energy.any():
                values = correlate(energy, motion[: len(energy)])
                curve = Curve(episode.number, len(energy), values)
                self._curves.setdefault(key, []).append(curve)

    def report(self) -> Iterator[Finding]:
        """The lag of the data set, then that of single episodes."""
        for key, curves in self._curves.items():
            found = find_lag(curves)
            usual = 0
            if found.sure:
                usual = found.steps
            if usual != 0:
                yield self._describe(key, usual, found.correlation)
            yield from self._report_alone(key, curves, usual)

    def _describe(self, key: str, lag: int, correlation: float) -> Finding:
        seconds = abs(lag) / self._subject.dataset.fps
        way = "behind"
        if lag < 0:
            way = "ahead of"
        message = (
            f"{key} is {abs(lag)} steps ({seconds:.2f} s) {way} the states: what moves in the "
            f"pictures correlates by {correlation:.2f} with what moves then"
        )
        numbers = {"lag_steps": float(lag), "correlation": correlation}
        repair = f"shift the camera (shift={key}:{lag})"
        return Finding("out-of-step", "warning", message, key, (), numbers, repair)

    def _report_alone(self, key: str, curves: list[Curve], usual: int) -> Iterator[Finding]:
        """Episodes whose own lag is another one."""
        values = np.array([curve.values for curve in curves])  # (E, lags)
        gains = values.max(1) - values[:, usual + LONGEST_LAG]
        least = max(ALONE_GAIN, ALONE_GAINS * float(np.quantile(gains, 0.9, method="lower")))
        if len(curves) < LEAST_EPISODES:
            least = FEW_GAIN
        found: dict[int, int] = {}
        for curve, gain in zip(curves, gains, strict=True):
            lag = int(np.argmax(curve.values)) - LONGEST_LAG
            bar = max(ALONE_CORRELATION, CHANCE / np.sqrt(curve.frames))
            sure = curve.values.max() >= bar and gain >= least
            if sure and abs(lag - usual) >= ALONE_LAG:
                found[curve.episode] = lag
        if not found:
            return
        worst = max(found, key=lambda number: abs(found[number] - usual))
        message = (
            f"{key} is out of step with the states in episodes {list_episodes(list(found))}; "
            f"the worst, episode {worst}, by {found[worst]} steps"
        )
        numbers = {"lag_steps": float(found[worst])}
        repair = "leave the episodes out (what=out-of-step)"
        yield Finding("episode-out-of-step", "warning", message, key, tuple(found), numbers, repair)


def correlate(energy: FloatArray, motion: FloatArray) -> FloatArray:
    """Pearson's correlation of energy (n,) at step t + lag with motion (n,) at t, by lag.

    Roots are compared, since single large changes would decide otherwise. A lag of more than a part
    of the episode has none (0).
    """
    shown = np.sqrt(energy)
    moved = np.sqrt(motion)
    values = np.zeros(2 * LONGEST_LAG + 1)
    for place in range(len(values)):
        lag = place - LONGEST_LAG
        if LAG_SHARE * abs(lag) > len(shown):
            continue
        late = shown[max(lag, 0) : len(shown) + min(lag, 0)]
        early = moved[max(-lag, 0) : len(moved) + min(-lag, 0)]
        values[place] = _pearson(late, early)
    return values


def _pearson(one: FloatArray, other: FloatArray) -> float:
    one = one - one.mean()
    other = other - other.mean()
    size = float(np.sqrt((one @ one) * (other @ other)))
    if size == 0:
        return 0.0
    return float(one @ other) / size


def find_lag(curves: list[Curve]) -> Lag:
    """The lag of all episodes together."""
    values = np.array([curve.values for curve in curves])  # (E, lags)
    weights = np.array([curve.frames for curve in curves], np.float64)
    weights /= weights.sum()
    mean: NDArray[np.float64] = weights @ values
    place = int(np.argmax(mean))
    correlation = float(mean[place])
    gains = values[:, place] - values[:, LONGEST_LAG]
    if len(curves) < LEAST_EPISODES:
        better = bool((gains > FEW_GAIN).all())
    else:
        spread = float(gains.std(ddof=1)) / np.sqrt(len(gains))
        better = float(gains.mean()) > LAG_T * spread and gains.mean() > 0
    frames = sum(curve.frames for curve in curves)
    bar = max(LAG_CORRELATION, CHANCE / np.sqrt(frames))
    sure = correlation >= bar and (place == LONGEST_LAG or better)
    return Lag(place - LONGEST_LAG, sure, correlation)
