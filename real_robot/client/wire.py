"""Messages as bytes: msgpack, with arrays as openpi's client writes them. Nothing is unpickled.

An array is a map with the keys `__ndarray__`, `data`, `dtype` and `shape`, a number of numpy one
with `__npgeneric__`, `data` and `dtype`; the keys are bytes. What a message claims is checked
before anything of that size is made: it comes from anybody.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"
DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")
"""Numbers of a fixed size: no objects, no texts, no structures."""
MOST_AXES = 8
MOST_ITEMS = 4096
"""Items of a list or a map, and lists and maps of a message: an empty one takes 60 times the byte
that announces it."""


class WireError(ValueError):
    """Bytes that are no message, or hold something that no message may hold."""


def pack(message: Mapping[str, Any]) -> bytes:
    """A message as bytes; raises WireError for values that no message may hold."""
    try:
        return msgpack.Packer(default=_pack_numpy).pack(message)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"the message cannot be sent: {error}") from error


def unpack(data: bytes) -> dict[str, Any]:
    """A message from bytes; its arrays are read-only. Raises WireError for anything else."""
    reader = _Reader()
    try:
        message = msgpack.unpackb(
            data,
            object_hook=reader.read_map,
            list_hook=reader.read_list,
            ext_hook=_refuse_extension,
            max_array_len=MOST_ITEMS,
            max_map_len=MOST_ITEMS,
            max_ext_len=16,
        )
    except WireError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"the message is no msgpack: {error or type(error).__name__}") from error
    if not isinstance(message, dict):
        raise WireError(f"the message is a {type(message).__name__}; a map is wanted")
    for key in message:
        if not isinstance(key, str):
            raise WireError(f"the message has the key {key!r:.40}; keys are texts")
    return message


def _pack_numpy(value: Any) -> dict[bytes, Any]:
    """An array or a number of numpy as a map."""
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{type(value).__name__} is no array, number, text, list or map")
    if not DTYPE.fullmatch(value.dtype.str):
        raise TypeError(f"arrays of {value.dtype} are not sent")
    if isinstance(value, np.generic):
        return {SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    return {
        ARRAY: True,
        b"data": value.tobytes(),
        b"dtype": value.dtype.str,
        b"shape": value.shape,
    }


class _Reader:
    """Reads the parts of one message, and counts them."""

    def __init__(self) -> None:
        self.parts = 0

    def read_list(self, items: list[Any]) -> list[Any]:
        """A list as it is."""
        self._count()
        return items

    def read_map(self, items: dict[Any, Any]) -> Any:
        """A map, or the array or the number that it stands for."""
        self._count()
        if ARRAY in items:
            return _read_array(items)
        if SCALAR in items:
            return _read_scalar(items)
        return items

    def _count(self) -> None:
        self.parts += 1
        if self.parts > MOST_ITEMS:
            raise WireError(f"the message has more than {MOST_ITEMS} lists and maps")


def _read_array(items: Mapping[Any, Any]) -> Any:
    """An array (read-only) on the bytes of the message."""
    dtype = _read_dtype(items.get(b"dtype"))
    shape, data = items.get(b"shape"), items.get(b"data")
    if not isinstance(shape, list) or len(shape) > MOST_AXES:
        raise WireError(f"an array has the shape {shape!r:.80}; a list of at most {MOST_AXES}")
    for size in shape:
        if type(size) is not int or size < 0:
            raise WireError(f"an array has the shape {shape!r:.80}; sizes are 0 or more")
    wanted = math.prod(shape) * dtype.itemsize  # whole numbers of Python: no overflow
    if not isinstance(data, bytes) or len(data) != wanted:
        raise WireError(f"an array {shape} of {dtype} takes {wanted} bytes; the message has others")
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_scalar(items: Mapping[Any, Any]) -> Any:
    """A number of numpy."""
    dtype, value = _read_dtype(items.get(b"dtype")), items.get(b"data")
    if not isinstance(value, bool | int | float):
        raise WireError(f"a number is given as {type(value).__name__}")
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        if not isinstance(value, int) or not bounds.min <= value <= bounds.max:
            raise WireError(f"{value!r:.40} is no {dtype}")
    try:
        return dtype.type(value)
    except OverflowError as error:
        raise WireError(f"{value!r:.40} is no {dtype}") from error


def _read_dtype(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str) or not DTYPE.fullmatch(name):
        raise WireError(f"an array of {name!r:.40}; numbers of a fixed size are wanted, as '<f4'")
    return np.dtype(name)


def _refuse_extension(code: int, data: bytes) -> Any:
    raise WireError(f"the message holds an extension ({code}); there are none")
