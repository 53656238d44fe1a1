"""Readers for files that somebody else may have written, bounded in time and memory.

JSON and YAML come back as plain values: dictionaries with text as keys, lists, text, numbers, truth
values and None. Whatever is wrong with a file (missing, too large, damaged, nested too deep, odd
values) raises the HotstartError that the caller names.
"""

from __future__ import annotations

import itertools
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..spec import HotstartError, cut, shorten

__all__ = [
    "check_plain",
    "cut",
    "parse_json",
    "parse_yaml",
    "read_bytes",
    "read_json",
    "read_text",
    "read_yaml",
    "shorten",
]

JSON_BYTES = 16 << 20
YAML_BYTES = 256 << 10
"""PyYAML reads about 100 kB a second."""
NESTED = 40
NODES = 2_000_000
YAML_NODES = 100_000
WHOLE_BITS = 64
PARSER_ERRORS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""What parsers raise for text that they cannot read."""
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
Value = TypeVar("Value")


def read_bytes(path: Path, error: type[HotstartError], limit: int) -> bytes:
    """The whole of an ordinary file of at most `limit` bytes; raises `error` for anything else."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise error(f"{path} is no ordinary file")
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except FileNotFoundError:
        raise error(f"{path} cannot be read: there is no such file") from None
    except (OSError, ValueError) as problem:
        raise error(f"{path} cannot be read: {cut(str(problem))}") from problem
    if len(raw) > limit:
        raise error(
            f"{path} cannot be read: it is longer than {limit:,} bytes, "
            "the most that is read of such a file"
        )
    return raw


def read_text(path: Path, error: type[HotstartError], limit: int) -> str:
    """The whole of a UTF-8 file; raises `error` as `read_bytes`, and for other bytes than UTF-8."""
    return _decode(read_bytes(path, error, limit), str(path), error)


def read_json(path: Path, error: type[HotstartError], limit: int = JSON_BYTES) -> Any:
    """Plain values of a JSON file of at most `limit` bytes; raises `error` for everything else."""
    return parse_json(read_bytes(path, error, limit), str(path), error)


def read_yaml(path: Path, error: type[HotstartError], limit: int = YAML_BYTES) -> Any:
    """Plain values of a YAML file of at most `limit` bytes; raises `error` for everything else."""
    return parse_yaml(read_bytes(path, error, limit), str(path), error)


def parse_json(raw: bytes | str, where: str, error: type[HotstartError]) -> Any:
    """Plain values of JSON that is at hand; `where` names it in messages."""
    return _parse(json.loads, raw, where, error, NODES)


def parse_yaml(raw: bytes | str, where: str, error: type[HotstartError]) -> Any:
    """Plain values of YAML that is at hand; `where` names it in messages."""
    from .yaml_values import load_yaml  # who reads JSON alone needs no PyYAML

    return _parse(load_yaml, raw, where, error, YAML_NODES)


def check_plain(value: Any, where: str, error: type[HotstartError], nodes: int = NODES) -> None:
    """Raise `error` unless a value is plain: of dictionaries with text as keys, lists, and scalars.

    Scalars are printable text, numbers, truth values and None; whole numbers fit into 64 bits. A
    value may be nested NESTED deep and hold `nodes` values; what occurs twice counts twice.
    """
    waiting = [(value, 0)]
    seen = 0
    while waiting:
        item, depth = waiting.pop()
        seen += 1
        if depth > NESTED:
            raise error(f"{where} is nested more than {NESTED} deep")
        if seen + len(waiting) > nodes:
            raise error(f"{where} holds more than {nodes:,} values")
        if isinstance(item, dict):
            _check_keys(item, where, error)
            waiting.extend(zip(item.values(), itertools.repeat(depth + 1)))
        elif isinstance(item, list):
            if len(item) > nodes:
                raise error(f"{where} holds more than {nodes:,} values")
            waiting.extend(zip(item, itertools.repeat(depth + 1)))
        else:
            _check_scalar(item, where, error)


def _check_keys(item: dict[Any, Any], where: str, error: type[HotstartError]) -> None:
    for key in item:
        if not isinstance(key, str):
            raise error(f"{where} holds the key {shorten(key)}; keys are text")
        _check_scalar(key, where, error)


def _check_scalar(item: Any, where: str, error: type[HotstartError]) -> None:
    if isinstance(item, str):
        if UNPRINTABLE.search(item):
            raise error(f"{where} holds text that cannot be printed: {shorten(item)}")
    elif isinstance(item, int):
        if item.bit_length() > WHOLE_BITS:
            raise error(f"{where} holds a whole number of more than {WHOLE_BITS} bits")
    elif not (item is None or isinstance(item, float)):
        raise error(f"{where} holds a {type(item).__name__}; only plain values are read")


def _parse(
    parser: Callable[[str], Value],
    raw: bytes | str,
    where: str,
    error: type[HotstartError],
    nodes: int,
) -> Value:
    if isinstance(raw, str):
        text = raw
    else:
        text = _decode(raw, where, error)
    try:
        value = parser(text)
    except RecursionError:
        raise error(f"{where} is nested more than {NESTED} deep") from None
    except PARSER_ERRORS as problem:
        raise error(f"{where} cannot be read: {cut(str(problem))}") from None
    check_plain(value, where, error, nodes)
    return value


def _decode(raw: bytes, where: str, error: type[HotstartError]) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as problem:
        raise error(
            f"{where} cannot be read: it is no UTF-8 text "
            f"({problem.reason} at byte {problem.start})"
        ) from None
