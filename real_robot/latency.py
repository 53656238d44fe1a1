"""How long a device takes: from a motion that was asked for to the motion that is seen.

A chirp is sent, and the velocities of what was sent and what was seen are compared: positions
drift, and so favour short lags. The lag is where the normalised cross-correlation of the velocities
is largest, found between the samples by a parabola (J. O. Smith, Spectral Audio Signal Processing,
"Quadratic interpolation of spectral peaks").
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from ..spec import ConfigError, FloatArray
from ..system.outputs import write_text
from .driver import Driver

GRID_S = 0.001
SMOOTH_S = 0.015
"""Velocities are taken over about so long, of both signals alike."""
LONGEST_S = 0.4
"""The largest lag that is looked for."""
SURE = 0.8
"""A confidence from which a lag may be used."""
LEAST_S = 3.0
"""A comparison needs so much time that both signals cover."""


@dataclass(frozen=True)
class Lag:
    """How long a device takes."""

    seconds: float
    confidence: float
    """The correlation of the velocities at this lag: 1 the same, 0 unrelated."""

    @property
    def is_sure(self) -> bool:
        """Whether it may be used."""
        return self.confidence >= SURE


def make_chirp(
    rate_hz: float,
    duration_s: float = 8.0,
    amplitude: float = 0.1,
    from_hz: float = 0.3,
    to_hz: float = 2.5,
) -> FloatArray:
    """A motion (n,) about 0 whose frequency grows evenly; it begins and ends gently, at 0.

    Its velocity is at most 2 pi `to_hz` `amplitude`.
    """
    times = np.arange(0.0, duration_s, 1 / rate_hz)
    phase = 2 * np.pi * (from_hz * times + (to_hz - from_hz) * times**2 / (2 * duration_s))
    fade = np.clip(np.minimum(times, times[-1] - times) / (0.1 * duration_s), 0.0, 1.0)
    return amplitude * np.sin(phase) * np.sin(fade * np.pi / 2) ** 2


@dataclass(frozen=True)
class Motion:
    """What was asked of a joint and what was measured of it, each at its own times [s]."""

    sent_s: FloatArray
    sent: FloatArray
    seen_s: FloatArray
    seen: FloatArray


def record_motion(
    driver: Driver,
    joint: int,
    offsets: FloatArray,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Motion:
    """Move one joint of a connected arm by offsets (n,) about where it is, one a servo period.

    The others hold. Raises DriverError, after which the arm has to be stopped.
    """
    base = driver.read().positions
    sent_s = []
    seen_s = []
    seen = []
    begin = clock()
    for index, offset in enumerate(offsets):
        target = base.copy()
        target[joint] += offset
        sent_s.append(clock())
        driver.command(target)
        state = driver.read()
        seen_s.append(state.made_s)
        seen.append(state.positions[joint])
        sleep(max(begin + (index + 1) / driver.servo_hz - clock(), 0.0))
    fresh = np.flatnonzero(np.diff(seen_s, prepend=-np.inf) > 0)
    return Motion(
        np.array(sent_s), base[joint] + offsets, np.array(seen_s)[fresh], np.array(seen)[fresh]
    )


def find_lag(
    sent_s: FloatArray,
    sent: FloatArray,
    seen_s: FloatArray,
    seen: FloatArray,
    longest_s: float = LONGEST_S,
) -> Lag:
    """By how much `seen` (m,) at `seen_s` follows `sent` (n,) at `sent_s`; times in seconds.

    Raises ConfigError where the two have less than 3 s in common, or one stands still.
    """
    begin = max(sent_s[0], seen_s[0])
    end = min(sent_s[-1], seen_s[-1])
    if end - begin < LEAST_S + longest_s:
        raise ConfigError(
            f"what was sent and what was seen have {max(end - begin, 0):.2f} s in common; "
            f"{LEAST_S + longest_s} s are needed: record for longer"
        )
    grid = np.arange(begin, end, GRID_S)
    asked = _take_velocity(np.interp(grid, sent_s, sent))
    done = _take_velocity(np.interp(grid, seen_s, seen))
    correlations = _correlate(asked, done, round(longest_s / GRID_S))
    best = int(np.argmax(correlations))
    confidence = float(max(correlations[best], 0.0))
    return Lag((best + _refine(correlations, best)) * GRID_S, confidence)


def _take_velocity(signal: FloatArray) -> FloatArray:
    """Velocities of a signal on the grid, smoothed by a bell, without their mean."""
    width = round(3 * SMOOTH_S / GRID_S)
    places = np.arange(-width, width + 1) * GRID_S
    bell = np.exp(-0.5 * (places / SMOOTH_S) ** 2)
    smooth = np.convolve(signal, bell / bell.sum(), mode="valid")
    velocity = np.diff(smooth)
    if not np.abs(velocity).max() > 1e-9:
        raise ConfigError("a signal stands still: nothing was sent, or nothing moved")
    return velocity - velocity.mean()


def _correlate(asked: FloatArray, done: FloatArray, longest: int) -> FloatArray:
    """Normalised correlation (longest + 1,) for each lag, over what overlaps at it."""
    found = np.empty(longest + 1)
    count = len(asked)
    for lag in range(longest + 1):
        first = asked[: count - lag]
        second = done[lag:]
        found[lag] = first @ second / np.sqrt((first @ first) * (second @ second))
    return found


def _refine(values: FloatArray, best: int) -> float:
    """Where between the samples the peak is, in samples from `best`."""
    if not 0 < best < len(values) - 1:
        return 0.0
    slope = values[best + 1] - values[best - 1]
    bend = values[best + 1] - 2 * values[best] + values[best - 1]
    if bend >= 0:
        return 0.0
    return float(-0.5 * slope / bend)


def save_latencies(path: Path, lags: Mapping[str, Lag], measured_on: str) -> None:
    """Write lags by device as JSON, with the date and what they were measured on.

    Raises ConfigError for a lag that is not sure: it must not be used.
    """
    unsure = [f"{name} ({lag.confidence:.2f})" for name, lag in lags.items() if not lag.is_sure]
    if unsure:
        raise ConfigError(
            f"the confidence of {', '.join(unsure)} is below {SURE}: measure again, with a larger "
            f"motion and nothing else moving"
        )
    plain = {
        "format": 1,
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "measured_on": measured_on,
        "latencies": {name: asdict(lag) for name, lag in lags.items()},
    }
    write_text(path, json.dumps(plain, indent=2) + "\n")
