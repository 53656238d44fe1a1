"""Estimates with their intervals: shares, means, and differences paired by seed."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from ..spec import ConfigError, DataError

CONFIDENCE = 0.95
RESAMPLES = 10_000
AT_ONCE = 500
"""Resamples drawn at a time, so that memory stays small whatever the number of episodes."""


class Interval(NamedTuple):
    """An estimate with its confidence interval; for a share the estimate is the rate."""

    mean: float
    low: float
    high: float

    @property
    def rate(self) -> float:
        """The estimate of a share."""
        return self.mean


class McNemar(NamedTuple):
    """Paired successes: how often only one succeeded, the exact p, and the rates' difference."""

    only_a: int
    only_b: int
    p: float
    difference: Interval


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval for a share (Brown, Cai and DasGupta 2001, equation 4)."""
    if not 0 <= successes <= n or n == 0:
        raise ConfigError(
            f"{successes} successes of {n} episodes are impossible; at least one episode is wanted"
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = middle - half
    if successes == 0:
        low = 0.0
    high = middle + half
    if successes == n:
        high = 1.0
    return Interval(p, low, high)


def bootstrap_mean(values: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Mean with its 95 % percentile bootstrap interval (Efron 1979).

    The same seed gives the same interval.

    One value, or equal values, give an interval of no width: there is nothing to resample.
    """
    data = np.asarray(values, np.float64).ravel()
    if data.size == 0 or not np.isfinite(data).all():
        raise DataError(
            f"a mean needs at least one value and only finite ones; these are {data.tolist()[:8]}"
        )
    if np.ptp(data) == 0:
        value = float(data[0])
        return Interval(value, value, value)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for begin in range(0, resamples, AT_ONCE):
        end = min(begin + AT_ONCE, resamples)
        means[begin:end] = data[rng.integers(data.size, size=(end - begin, data.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(data.mean()), float(low), float(high))


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Mean of a - b with its 95 % interval.

    The pairs are resampled, so what both find hard cancels out.
    """
    first, second = _pair(a, b, np.dtype(np.float64))
    return bootstrap_mean(first - second, seed, resamples)


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """McNemar's exact two-sided test of paired successes (n,), (n,), and the difference of the
    rates.

    p is the binomial one of the discordant pairs (1 when there are none). The interval is
    Newcombe's for paired shares (Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10).
    """
    first, second = _pair(a, b, np.dtype(np.bool_))
    only_a = int((first & ~second).sum())
    only_b = int((~first & second).sum())
    both = int((first & second).sum())
    neither = len(first) - both - only_a - only_b
    tail = float(binom.cdf(min(only_a, only_b), only_a + only_b, 0.5))
    return McNemar(only_a, only_b, min(1.0, 2 * tail), _newcombe(both, only_a, only_b, neither))


def _newcombe(both: int, only_a: int, only_b: int, neither: int) -> Interval:
    """Difference of two paired shares with Newcombe's interval: two Wilson intervals, joined by
    their correlation.
    """
    n = both + only_a + only_b + neither
    a, b = wilson(both + only_a, n), wilson(both + only_b, n)
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    excess = float(both * neither - only_a * only_b)
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    phi = 0.0
    if product:
        phi = excess / math.sqrt(product)
    difference = (only_a - only_b) / n

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))

    low = difference - reach(a.mean - a.low, b.high - b.mean)
    high = difference + reach(a.high - a.mean, b.mean - b.low)
    return Interval(difference, max(low, -1.0), min(high, 1.0))


def _pair(a: ArrayLike, b: ArrayLike, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Both as arrays (n,) of one length."""
    first = np.asarray(a, dtype).ravel()
    second = np.asarray(b, dtype).ravel()
    if len(first) != len(second) or len(first) == 0:
        raise DataError(
            f"pairs are wanted, but there are {len(first)} and {len(second)} values; "
            "both need the same, at least 1"
        )
    return first, second


def median_interval(values: ArrayLike) -> Interval | None:
    """The median with its 95 % interval from order statistics, exact whatever the distribution.

    None below six values.
    """
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    if not len(ordered):
        return None
    rank = int(binom.ppf((1 - CONFIDENCE) / 2, len(ordered), 0.5))
    if rank < 1:
        return None
    return Interval(float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[-rank]))
