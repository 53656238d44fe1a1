"""Judging values that were read from a file."""

from __future__ import annotations

from collections.abc import Mapping


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def has_types(plain: object, wanted: Mapping[str, type | tuple[type, ...]]) -> bool:
    """Whether a value is a dictionary of `wanted` keys only, each with a value of its type."""
    if not isinstance(plain, dict):
        return False
    return all(isinstance(value, wanted.get(key, ())) for key, value in plain.items())
