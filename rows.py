"""Values with rows: dataclasses, mappings and tuples of arrays whose first axis is the row.

Some rows are taken out of such a value or put into it, or parts are joined. Every array in it is
reached, so that no field that is added later is forgotten. Knows only `spec` (numpy only); tensors
are arrays too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .spec import ConfigError, IntArray

Value = TypeVar("Value")
Array = NDArray[Any]
"""Numbers of any dtype."""
RowArrays = Mapping[str, Array]
"""Name -> array (B, ...)."""


def take_rows(value: Value, rows: ArrayLike) -> Value:
    """The rows (R,) of a value of B rows, in their order: a value of R rows."""
    return _map_arrays(lambda array: array[rows], value)


def put_rows(value: Value, rows: IntArray, part: Value) -> Value:
    """A copy of `value` (B rows) with `part` (R rows) in `rows` (R,); the others stay bit-equal.

    Raises ConfigError where arrays of `part` have another shape, KeyError where it lacks one.
    """

    def put(old: Array, new: Array) -> Array:
        wanted = (len(rows), *old.shape[1:])
        if new.shape != wanted:
            raise ConfigError(f"rows of shape {new.shape} were to be put in; {wanted} is needed")
        changed = old.copy()
        changed[rows] = new
        return changed

    return _map_arrays(put, value, part)


def join_rows(parts: Sequence[Value], rows: Sequence[IntArray]) -> Value:
    """One value of all rows from `parts`, which hold `rows` (R,) each; every row is in one part."""
    count = sum(map(len, rows))

    def join(*arrays: Array) -> Array:
        whole = np.empty((count, *arrays[0].shape[1:]), arrays[0].dtype)
        for own, array in zip(rows, arrays, strict=True):
            whole[own] = array
        return whole

    return _map_arrays(join, *parts)


def _map_arrays(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """The value with `function` applied to each array, given those at its place in `others` too."""
    values = (value, *others)
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(map(partial(_map_arrays, function), *values))
    if isinstance(value, Mapping):
        changed = {}
        for key in value:
            changed[key] = _map_arrays(function, *[each[key] for each in values])
        return changed
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **_map_arrays(function, *map(vars, values)))
    if not hasattr(value, "shape"):
        raise TypeError(f"{type(value).__name__} has no rows; arrays (B, ...) are wanted")
    return function(*values)
