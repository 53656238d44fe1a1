"""ROS messages from their definitions and bytes; nothing of a bag is run.

A definition is the text of a .msg file, followed by those of the types that it uses (`ros2msg` in
MCAP and rosbag2, `ros1msg` in ROS 1). Bytes are CDR (OMG's Common Data Representation, as ROS 2
writes it) or ROS 1's own form. A message becomes a dict: numbers, text, arrays of numbers as numpy
arrays that share the message's memory, other arrays as lists, and dicts.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...spec import DataError, cut, shorten

Value = Any
"""A number, a text, an array, or a dict or list of values."""
NUMBERS = {
    "bool": "?",
    "byte": "B",
    "char": "B",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
"""struct's letters; numpy has the same."""
MOST_TEXT = 1 << 20
MOST_TYPES = 1000
DEEPEST = 20
MOST_EMPTY = 1000
"""Parts without bytes that a message may hold."""
SEPARATOR = re.compile(r"^=+\s*$", re.MULTILINE)
FIELD = re.compile(
    r"(?P<type>[A-Za-z]\w*(?:/\w+)*)(?:<=\d+)?"
    r"(?P<array>\[(?P<bound><=)?(?P<count>\d*)\])?\s+(?P<name>[A-Za-z]\w*)(?P<rest>(?:\s*=.*|\s+.*)?)"
)
TIMES = {
    "builtin_interfaces/Time": "int32 sec\nuint32 nanosec",
    "builtin_interfaces/Duration": "int32 sec\nuint32 nanosec",
    "time": "uint32 sec\nuint32 nanosec",
    "duration": "int32 sec\nint32 nanosec",
}
"""Types that definitions may leave out; `time` and `duration` are ROS 1's."""


@dataclass(frozen=True)
class Field:
    """One field; `count` is None for one value, 0 for a sequence, else the length of an array."""

    name: str
    type: str
    count: int | None


Types = Mapping[str, tuple[Field, ...]]


class MessageType:
    """A type of message, ready to decode."""

    def __init__(self, name: str, definition: str, ros1: bool = False) -> None:
        """Parse a definition.

        Raises DataError where the definition is damaged or uses a type that it does not hold.
        """
        self.name = _shorten_name(name)
        self.ros1 = ros1
        self.types = parse_definition(self.name, definition)
        _check_types(self.types, self.name, (), set())

    def decode(self, data: bytes | memoryview) -> dict[str, Value]:
        """The fields of a message; DataError where the bytes do not fit the type."""
        try:
            return _Reader(self, data).read_type(self.name)
        except (struct.error, ValueError, IndexError, UnicodeDecodeError, OverflowError) as problem:
            raise DataError(
                f"a message of {self.name} is damaged ({cut(str(problem))})"
            ) from problem


def parse_definition(name: str, definition: str) -> Types:
    """Every type of a definition by its short name, package/Type; the first is called `name`."""
    if len(definition) > MOST_TEXT:
        raise DataError(f"the definition of {shorten(name)} has more than {MOST_TEXT:,} characters")
    texts = {_shorten_name(name): ""}
    first, *others = SEPARATOR.split(definition)
    texts[_shorten_name(name)] = first
    for part in others:
        head, *lines = part.strip().split("\n")
        if not head.startswith("MSG:"):
            raise DataError(f"the definition of {shorten(name)} holds {shorten(head)}, not MSG: ..")
        texts[_shorten_name(head.removeprefix("MSG:").strip())] = "\n".join(lines)
    if len(texts) > MOST_TYPES:
        raise DataError(f"the definition of {shorten(name)} holds more than {MOST_TYPES} types")
    for known, text in TIMES.items():
        texts.setdefault(known, text)
    found: dict[str, tuple[Field, ...]] = {}
    for key, text in texts.items():
        found[key] = _parse_fields(key, text, texts)
    return found


def _parse_fields(owner: str, text: str, known: Mapping[str, str]) -> tuple[Field, ...]:
    fields: list[Field] = []
    for line in text.splitlines():
        plain = line.partition("#")[0].strip()
        if not plain:
            continue
        found = FIELD.fullmatch(plain)
        if found is None:
            raise DataError(f"the definition of {shorten(owner)} holds the line {shorten(plain)}")
        if found["rest"].strip().startswith("="):
            continue  # a constant
        count = None
        if found["array"]:
            count = int(found["count"] or 0)
        if found["bound"]:
            count = 0
        fields.append(Field(found["name"], _find_type(owner, found["type"], known), count))
    return tuple(fields)


def _find_type(owner: str, written: str, known: Mapping[str, str]) -> str:
    """The full name of a type that a definition of `owner` mentions."""
    if written in NUMBERS or written in ("string", "time", "duration"):
        return written
    name = _shorten_name(written)
    if written == "Header":
        name = "std_msgs/Header"
    elif "/" not in name:
        name = f"{owner.partition('/')[0]}/{name}"
    if name not in known:
        raise DataError(f"the definition of {shorten(owner)} lacks the type {shorten(written)}")
    return name


def _check_types(types: Types, name: str, above: tuple[str, ...], done: set[str]) -> None:
    """Refuse types that hold themselves, and endless nesting; each type is looked at once."""
    if name in above or len(above) > DEEPEST:
        raise DataError(f"the type {shorten(name)} holds itself or is nested {len(above)} deep")
    if name in done:
        return
    for inner in {field.type for field in types[name]}:
        if inner in types:
            _check_types(types, inner, (*above, name), done)
    done.add(name)


def _shorten_name(name: str) -> str:
    """package/Type of package/msg/Type."""
    return name.replace("/msg/", "/")


class _Reader:
    """Reads one message."""

    def __init__(self, type: MessageType, data: bytes | memoryview) -> None:
        self.types, self.ros1 = type.types, type.ros1
        self.data = memoryview(data)
        self.place = 0
        self.left = len(data) + MOST_EMPTY
        self.order = "<"
        if not self.ros1:
            kind = bytes(self.data[:2])
            if kind not in (b"\0\0", b"\0\1"):
                raise DataError(
                    f"a message begins with {kind.hex()}; plain CDR (0000, 0001) is read"
                )
            if kind == b"\0\0":
                self.order = ">"
            self.data = self.data[4:]

    def read_type(self, name: str) -> dict[str, Value]:
        """All fields of a type."""
        self.left -= 1
        if self.left < 0:
            raise ValueError("it holds more parts than bytes")
        fields = self.types[name]
        if not fields and not self.ros1:
            self.place += 1  # ROS 2 writes a byte for a message without fields
        found: dict[str, Value] = {}
        for field in fields:
            if field.count is None:
                found[field.name] = self._read_value(field.type)
            else:
                found[field.name] = self._read_array(field)
        return found

    def _read_value(self, type: str) -> Value:
        if type in NUMBERS:
            return self._read_number(NUMBERS[type])
        if type == "string":
            return self._read_text()
        return self.read_type(type)

    def _read_number(self, letter: str) -> int | float | bool:
        size = struct.calcsize(f"={letter}")
        self._align(size)
        (value,) = struct.unpack_from(self.order + letter, self.data, self.place)
        self.place += size
        return value

    def _read_text(self) -> str:
        length = int(self._read_number("I"))
        raw = bytes(self._take(length))
        if not self.ros1:
            raw = raw.removesuffix(b"\0")
        return raw.decode()

    def _read_array(self, field: Field) -> Value:
        count = field.count or int(self._read_number("I"))
        if count > len(self.data) - self.place:
            raise ValueError(f"{field.name} has {count:,} entries in {len(self.data):,} bytes")
        if field.type in NUMBERS:
            letter = NUMBERS[field.type]
            size = struct.calcsize(f"={letter}")
            if count:
                self._align(size)
            return np.frombuffer(self._take(count * size), np.dtype(self.order + letter))
        return [self._read_value(field.type) for _ in range(count)]

    def _align(self, size: int) -> None:
        if not self.ros1:
            self.place += -self.place % size

    def _take(self, length: int) -> memoryview:
        part = self.data[self.place : self.place + length]
        if len(part) != length:
            raise ValueError(f"it ends {length - len(part):,} bytes early")
        self.place += length
        return part
