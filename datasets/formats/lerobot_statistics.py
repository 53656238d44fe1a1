"""Statistics of features as LeRobot 0.6.1 writes them into a data set, to the last digit.

Means and squares are summed in the type of the numbers (float32 for bytes and truth values), the
deviation is the root of the mean square less the squared mean, and quantiles are read off a
histogram of 5,000 bins between the extremes. Pictures are sampled over time and thinned out. Those
of all episodes are joined one episode after the other: extremes, pooled mean and deviation, and
quantiles as a mean by count, which is not the quantile of all numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...spec import IntArray

Statistics = dict[str, NDArray[Any]]
"""min, max, mean, std, count (1,) and, in version 3, quantiles; (numbers,) or (channels, 1, 1)."""
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
BINS = 5000
EDGE = 1e-10
LEAST_SAMPLES = 100
MOST_SAMPLES = 10_000
LARGE_SIDE = 300
THIN_SIDE = 150


def describe_numbers(values: NDArray[Any]) -> Statistics:
    """Statistics of the steps (n, ...) of an episode, over all axes but the last.

    Of a single step with several axes LeRobot makes statistics of another shape, which it then
    cannot join to those of other episodes; they have the usual shape here.
    """
    if values.ndim == 1:
        values = values[:, None]
    rows = values.reshape(-1, values.shape[-1])
    if len(rows) > 1:
        return {**_describe_rows(rows), "count": np.array([len(values)])}
    found = _describe_plainly(rows)
    for name in QUANTILES:
        found[name] = found["mean"].copy()
    return {**found, "count": np.array([len(values)])}


def describe_frames(frames: NDArray[np.uint8]) -> Statistics:
    """Statistics of sampled pictures (n, H, W, C) by channel, of numbers from 0 to 1."""
    found = _describe_rows(frames.reshape(-1, frames.shape[-1]))
    return _shape_channels(found, len(frames))


def describe_numbers_v2(values: NDArray[Any]) -> Statistics:
    """Statistics of the steps (n, ...) of an episode as version 2.1 has them: no quantiles."""
    if values.ndim == 1:
        values = values[:, None]
    return {**_describe_plainly(values), "count": np.array([len(values)])}


def describe_frames_v2(frames: NDArray[np.uint8]) -> Statistics:
    """Statistics of sampled pictures (n, H, W, C) by channel as version 2.1 has them.

    Channels stand first when summed, as in LeRobot 0.3.3: the order settles the last digit.
    """
    ordered = np.ascontiguousarray(frames.transpose(0, 3, 1, 2))
    found = _describe_plainly(ordered, axis=(0, 2, 3))
    return _shape_channels(found, len(frames))


def join_statistics(total: Statistics, episode: Statistics) -> Statistics:
    """Statistics of everything up to an episode, and those of the episode, as one."""
    both = (total, episode)
    counts = np.stack([one["count"] for one in both])
    means = np.stack([one["mean"] for one in both])
    variances = np.stack([one["std"] ** 2 for one in both])
    weights = counts.reshape(2, *[1] * (means.ndim - 1))
    count = counts.sum(axis=0)
    mean = (means * weights).sum(axis=0) / count
    variance = ((variances + (means - mean) ** 2) * weights).sum(axis=0) / count
    joined = {
        "min": np.minimum(total["min"], episode["min"]),
        "max": np.maximum(total["max"], episode["max"]),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": count,
    }
    for name in QUANTILES:
        if name in total and name in episode:
            values = np.stack([one[name] for one in both])
            joined[name] = (values * weights).sum(axis=0) / count
    return joined


def choose_samples(length: int) -> IntArray:
    """The steps of an episode whose pictures are described: 100 or, of many, their number to the
    power of 0.75.
    """
    least = min(LEAST_SAMPLES, length)
    count = max(least, min(int(length**0.75), MOST_SAMPLES))
    return np.round(np.linspace(0, length - 1, count)).astype(np.int64)


def thin_out(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every so many rows and columns of large pictures (n, H, W, C)."""
    height, width = frames.shape[1:3]
    if max(height, width) < LARGE_SIDE:
        return frames
    every = int(max(height, width) / THIN_SIDE)
    return frames[:, ::every, ::every]


def to_plain(statistics: Mapping[str, NDArray[Any]]) -> dict[str, list[Any]]:
    """Lists of floats, and the count as whole numbers."""
    plain: dict[str, list[Any]] = {}
    for name, values in statistics.items():
        if name == "count":
            plain[name] = values.tolist()
        else:
            plain[name] = values.astype(np.float64).tolist()
    return plain


def from_plain(plain: Mapping[str, Sequence[Any]]) -> Statistics:
    """What `to_plain` made."""
    return {name: np.array(values) for name, values in plain.items()}


def _describe_plainly(values: NDArray[Any], axis: int | tuple[int, ...] = 0) -> Statistics:
    return {
        "min": values.min(axis=axis),
        "max": values.max(axis=axis),
        "mean": values.mean(axis=axis),
        "std": values.std(axis=axis),
    }


def _describe_rows(rows: NDArray[Any]) -> Statistics:
    """Statistics of rows (n, numbers), n > 1."""
    values = rows.astype(np.result_type(rows.dtype, np.float32), copy=False)
    mean = values.mean(axis=0)
    square = (values**2).mean(axis=0)
    low, high = values.min(axis=0), values.max(axis=0)
    deviation = np.sqrt(np.maximum(0, square - mean**2))
    found = {"min": low, "max": high, "mean": mean, "std": deviation}
    quantiles = []
    for column in range(values.shape[1]):
        quantiles.append(_find_quantiles(rows[:, column], values[:, column]))
    for place, name in enumerate(QUANTILES):
        found[name] = np.array([own[place] for own in quantiles])
    return found


def _find_quantiles(raw: NDArray[Any], values: NDArray[Any]) -> list[float]:
    """Quantiles of one column; `raw` are the same numbers in the type that they came in."""
    # One number each, so that numpy of any version keeps their type.
    low = values.min(keepdims=True) - values.dtype.type(EDGE)
    high = values.max(keepdims=True) + values.dtype.type(EDGE)
    edges = np.arange(BINS + 1, dtype=values.dtype) * ((high - low) / values.dtype.type(BINS))
    edges = edges + low
    edges[-1:] = high
    if raw.dtype == np.uint8:
        counts = np.bincount(raw, minlength=256).astype(np.float64)
        levels = np.arange(256, dtype=values.dtype)
        histogram = np.histogram(levels, edges, weights=counts)[0]
    else:
        histogram = np.histogram(values, edges)[0].astype(np.float64)
    total = np.cumsum(histogram)
    return [_find_quantile(total, edges, share * len(values)) for share in QUANTILES.values()]


def _find_quantile(total: NDArray[Any], edges: NDArray[Any], wanted: float) -> float:
    """Where the running count of a histogram reaches a number, linear within the bin."""
    place = int(np.searchsorted(total, wanted))
    if place == 0:
        return float(edges[0])
    if place >= len(total):
        return float(edges[-1])
    inside = total[place] - total[place - 1]
    if inside == 0:
        return float(edges[place])
    share = (wanted - total[place - 1]) / inside
    return float(edges[place] + share * (edges[place + 1] - edges[place]))


def _shape_channels(statistics: Statistics, count: int) -> Statistics:
    """Numbers of 0 to 255 by channel (C,) as (C, 1, 1) from 0 to 1."""
    shaped = {name: values.reshape(-1, 1, 1) / 255.0 for name, values in statistics.items()}
    return {**shaped, "count": np.array([count])}
