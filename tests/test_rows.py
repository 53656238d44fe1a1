"""Values with rows: every array of a value is reached, whatever holds it."""

from dataclasses import dataclass

import numpy as np
import pytest
from hotstart.rows import RowArrays, join_rows, put_rows, take_rows
from hotstart.spec import ConfigError


@dataclass(frozen=True)
class Inner:
    pair: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Outer:
    plain: np.ndarray
    named: RowArrays
    inner: Inner
    nothing: None = None


def value(rows: int, start: int = 0) -> Outer:
    """Four arrays whose numbers are those of their rows, counted from `start`."""
    row = np.arange(start, start + rows)
    wide = np.stack((row, row), 1)
    return Outer(row, {"a": wide}, Inner((row.astype(np.float32), wide[:, :, None])))


def arrays_of(one: Outer) -> list[np.ndarray]:
    return [one.plain, one.named["a"], *one.inner.pair]


def test_rows_are_taken_from_every_array_in_their_order():
    taken = take_rows(value(5), np.array([3, 1]))
    for array in arrays_of(taken):
        assert array.reshape(2, -1)[:, 0].tolist() == [3, 1]
    assert taken.nothing is None


def test_rows_are_put_into_every_array_and_the_old_value_stays():
    old = value(4)
    changed = put_rows(old, np.array([2, 0]), value(2, start=100))
    for array in arrays_of(changed):
        assert array.reshape(4, -1)[:, 0].tolist() == [101, 1, 100, 3]
    for array, before in zip(arrays_of(old), arrays_of(value(4)), strict=True):
        np.testing.assert_array_equal(array, before)
    assert changed.inner.pair[0].dtype == np.float32


def test_parts_are_joined_row_by_row():
    rows = [np.array([1, 4]), np.array([3, 0, 2])]
    whole = join_rows([take_rows(value(5), own) for own in rows], rows)
    for joined, before in zip(arrays_of(whole), arrays_of(value(5)), strict=True):
        np.testing.assert_array_equal(joined, before)
        assert joined.dtype == before.dtype
    assert whole.nothing is None


def test_a_part_of_another_size_is_refused():
    """numpy alone would put one row into all of them."""
    with pytest.raises(ConfigError, match=r"shape \(1,\) were to be put in; \(2,\) is needed"):
        put_rows(value(4), np.array([0, 1]), value(1))


def test_what_has_no_rows_is_refused():
    with pytest.raises(TypeError, match=r"list has no rows; arrays \(B, ...\) are wanted"):
        take_rows({"a": [1, 2, 3]}, np.array([0]))
