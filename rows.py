"""Values with rows: dataclasses, mappings and tuples of arrays whose first axis is the row.

Some rows are taken out of such a value or put into it. Every array in it is reached, so that a field that is added
later is never forgotten. Knows only `spec` (numpy only); tensors are arrays too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from numpy.typing import NDArray

from .spec import ConfigError, IntArray

Value = TypeVar("Value")
RowArrays = Mapping[str, NDArray[Any]]
"""Name -> array (B, ...)."""


def take_rows(value: Value, rows: Any) -> Value:
    """The rows (R,) of a value of B rows, in their order: a value of R rows."""
    return _map_arrays(lambda array: array[rows], value)


def put_rows(value: Value, rows: IntArray, part: Value) -> Value:
    """A copy of `value` (B rows) with `part` (R rows) in its `rows` (R,); the other rows stay as they are, bit for bit.

    Raises ConfigError where `part` has another shape or number of rows, KeyError where it lacks an array.
    """

    def put(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
        wanted = (len(rows), *old.shape[1:])
        if new.shape != wanted:
            raise ConfigError(f"rows of shape {new.shape} were to be put in; {wanted} is needed")
        changed = old.copy()
        changed[rows] = new
        return changed

    return _map_arrays(put, value, part)


def _map_arrays(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """The value with `function` applied to each of its arrays, and to those at the same place in `others`."""
    if value is None:
        return None
    if is_dataclass(value):
        changed = {}
        for field in fields(value):
            parts = [getattr(each, field.name) for each in (value, *others)]
            changed[field.name] = _map_arrays(function, *parts)
        return replace(value, **changed)
    if isinstance(value, Mapping):
        return {
            key: _map_arrays(function, *(each[key] for each in (value, *others))) for key in value
        }
    if isinstance(value, tuple):
        return tuple(_map_arrays(function, *parts) for parts in zip(value, *others, strict=True))
    if not hasattr(value, "shape"):
        raise TypeError(f"{type(value).__name__} has no rows; arrays (B, ...) are wanted")
    return function(value, *others)
