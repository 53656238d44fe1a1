"""Ranges and moments of actions and states: what the normaliser is made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import DataError, FloatArray, IntArray
from .episodes import ACTION, Dataset, count_steps, first_not_finite
from .kinds import check_numbers
from .windows import Windows

CONSTANT_STATE = 1e-5
"""A state whose scale is below this share of its size, or of 1, is constant.

So small noise in it is not blown up.
"""
CONSTANT_ACTION = 1e-6
"""An action whose scale is below this share of its size is constant.

The share is what rounding to float32 leaves.
"""
Statistics = dict[str, NDArray[Any]]
"""min, max, mean, std, q01, q99 over the first axis, float64, and count, int64 of shape ()."""


def find_constants(low: NDArray[Any], high: NDArray[Any], *, commanded: bool) -> NDArray[np.bool_]:
    """Which numbers never change, bool of the shape (...) of their least and greatest values.

    `commanded` says that they are actions.
    """
    half = (high - low) / 2
    if commanded:
        return half <= CONSTANT_ACTION * np.maximum(np.abs(low), np.abs(high))
    return half < CONSTANT_STATE * np.maximum(1.0, np.abs(high + low) / 2)


def statistics(array: NDArray[Any], weights: FloatArray | None = None) -> Statistics:
    """Statistics over the first axis of (N, ...), in float64.

    `weights` (N,) says what each row counts for mean, std and quantiles; None: all the same.

    std is the population's (divided by N). q01 and q99 are the 1 % and 99 % quantiles, linear
    between neighbours: a range that single outliers do not stretch. Raises DataError for no rows,
    for numbers that are not finite, and for what is no real number.
    """
    array = np.asarray(array)
    check_numbers("the array", array.dtype)
    if array.ndim == 0 or len(array) == 0:
        raise DataError(f"statistics need at least one row; the array has shape {array.shape}")
    bad = first_not_finite(array)
    if bad:
        place = ", ".join(map(str, bad[0]))
        raise DataError(
            f"[{place}] is {bad[1]}: statistics need finite numbers (`hotstart data verify`)"
        )
    values = array.astype(np.float64)
    if weights is not None:
        return _weigh_statistics(values, weights)
    q01, q99 = np.quantile(values, (0.01, 0.99), axis=0)
    return {
        "min": np.asarray(values.min(0)),
        "max": np.asarray(values.max(0)),
        "mean": np.asarray(values.mean(0)),
        "std": np.asarray(values.std(0)),
        "q01": np.asarray(q01),
        "q99": np.asarray(q99),
        "count": np.asarray(len(values), np.int64),
    }


def _weigh_statistics(values: NDArray[np.float64], weights: FloatArray) -> Statistics:
    """Statistics of rows that do not count the same.

    Quantiles are linear between rows, as those of `statistics` are; a row's place is the share of
    the rows below it.
    """
    mean = np.average(values, axis=0, weights=weights)
    variance = np.average((values - mean) ** 2, axis=0, weights=weights)
    columns = values.reshape(len(values), -1)
    quantiles = np.empty((2, columns.shape[1]))
    share = weights / weights.sum()
    for number, column in enumerate(columns.T):
        order = np.argsort(column, kind="stable")
        below = np.cumsum(share[order]) - share[order]
        places = below / max(1 - share[order[-1]], 1e-12)
        quantiles[:, number] = np.interp((0.01, 0.99), places, column[order])
    shape = values.shape[1:]
    return {
        "min": np.asarray(values.min(0)),
        "max": np.asarray(values.max(0)),
        "mean": np.asarray(mean),
        "std": np.asarray(np.sqrt(variance)),
        "q01": quantiles[0].reshape(shape),
        "q99": quantiles[1].reshape(shape),
        "count": np.asarray(len(values), np.int64),
    }


def dataset_statistics(
    dataset: Dataset,
    index: IntArray | Windows | None = None,
    weigh: Callable[[IntArray], FloatArray | None] | None = None,
) -> dict[str, Statistics]:
    """Statistics of `action` and of every state; images have a fixed range and need none.

    `index` holds the steps that count, for instance the windows (N, T) of the training episodes;
    each step counts once, however many windows share it. `weigh` says what each of some steps
    counts, as `Mixture.weigh` does. Raises DataError as `statistics` does.
    """
    keys: list[str] = []
    for name, key in dataset.obs_spec.keys.items():
        if key.kind == "state":
            keys.append(name)
    steps: IntArray | slice = slice(None)
    if isinstance(index, Windows):
        steps = index.used_steps()
    elif index is not None:
        steps = np.unique(index)
    weights: FloatArray | None = None
    if weigh is not None:
        weights = weigh(np.arange(count_steps(dataset))[steps])
    found: dict[str, Statistics] = {}
    for key in [*keys, ACTION]:
        try:
            found[key] = statistics(dataset.array(key)[steps], weights)
        except DataError as error:
            raise DataError(f"{key}: {error}") from error
    return found
