"""Values and choices in messages: short, in bounded time and memory, whatever the value is."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np


def unknown(what: str, word: str, valid: Sequence[str]) -> str:
    """The message for a word that is not among the valid ones, which it names."""
    choices = ", ".join(valid) or "none"
    return f"unknown {what} {shorten(word)}{nearest(word, valid)}; valid: {choices}"


def nearest(word: str, valid: Sequence[str]) -> str:
    """A guess at what was meant, to put into a message; empty when nothing is near."""
    near = difflib.get_close_matches(word[:LONGEST], valid, n=1)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return ""


LONGEST = 120
"""Characters of a value that a message repeats."""
FIRST = 10
"""Elements of a list or dictionary that a message repeats."""


def cut(text: str, longest: int = 4 * LONGEST) -> str:
    """Text for a message, its end left out where it is long."""
    if len(text) <= longest:
        return text
    return text[: longest - 3] + "..."


def shorten(value: object, longest: int = LONGEST) -> str:
    """`repr(value)` for a message, cut to `longest` characters, in bounded time and memory."""
    return cut(_describe(value, 3), longest)


def _describe(value: object, depth: int) -> str:
    if isinstance(value, str | bytes | bytearray):
        if len(value) <= LONGEST:
            return repr(value)
        return repr(value[:LONGEST]) + "..."
    if isinstance(value, bool | float | complex | None):
        return repr(value)
    if isinstance(value, int):
        if value.bit_length() <= LONGEST:
            return repr(value)
        return f"<a whole number of {value.bit_length()} bits>"
    if isinstance(value, Mapping):
        return _describe_parts(_describe_pairs(value, depth - 1), len(value), depth, "{}")
    if isinstance(value, list | tuple | Set):
        brackets = {list: "[]", tuple: "()"}.get(type(value), "{}")
        parts = map(_describe, value, itertools.repeat(depth - 1))
        return _describe_parts(parts, len(value), depth, brackets)
    if isinstance(value, BaseException):
        return type(value).__name__ + _describe(value.args, depth - 1)
    return _describe_object(value)


def _describe_pairs(values: Mapping[Any, Any], depth: int) -> Iterator[str]:
    for key, value in values.items():
        yield f"{_describe(key, depth)}: {_describe(value, depth)}"


def _describe_parts(parts: Iterable[str], count: int, depth: int, brackets: str) -> str:
    """The first elements of `parts`; no more of them are made than are shown."""
    shown: list[str] = []
    if depth > 0:
        shown.extend(itertools.islice(parts, FIRST))
    if brackets == "()" and count == len(shown) == 1:
        return f"({shown[0]},)"
    if count > len(shown):
        shown.append("...")
    return brackets[0] + ", ".join(shown) + brackets[1]


def _describe_object(value: object) -> str:
    """Types and numpy's small numbers as they are; of everything else the type and the shape."""
    if isinstance(value, np.number | np.bool_ | type) or _is_small(value):
        return cut(repr(value), LONGEST)
    if isinstance(value, np.dtype):
        if value.names is None:
            return repr(value)
        return "<a structured dtype>"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"<{type(value).__name__} {tuple(shape)}>"
    return f"<{type(value).__name__}>"


def _is_small(value: object) -> bool:
    """Whether a value is an array of a few numbers."""
    if not isinstance(value, np.ndarray):
        return False
    return value.size <= 2 * FIRST and value.dtype.kind in "biufc"
