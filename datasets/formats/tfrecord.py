"""TFRecord files and the tf.train.Example in them, read without TensorFlow.

A record is its length, the length's checksum, the bytes, and their checksum (masked CRC-32C). The
bytes are an Example in protobuf's wire format: names with lists of bytes, floats or integers. Of a
SequenceExample, the values of all steps are joined.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ...spec import DataError, cut
from .files import AGAIN, check_memory

HEAD = struct.Struct("<QI")
SUM = struct.Struct("<I")
MASK = 0xA282EAD8
VARINT_BYTES = 10
MOST_NAMES = 10_000
Feature = list[memoryview] | NDArray[np.float32] | NDArray[np.int64]
Example = dict[str, Feature]


class RecordFile:
    """One file of records; each is read with its checksums."""

    def __init__(self, path: Path) -> None:
        """Open it; DataError where it is no ordinary file that can be read."""
        self.path = path
        if not path.is_file():
            raise DataError(f"{path} is missing or no ordinary file; {AGAIN}")
        self._file = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size

    def scan(self) -> Iterator[tuple[int, bytes]]:
        """Every record with its place, in the order of the file."""
        place = 0
        while place < self._size:
            raw = self.read(place)
            yield place, raw
            place += HEAD.size + len(raw) + SUM.size

    def read(self, place: int) -> bytes:
        """The record at a place; DataError where a checksum is wrong or the file ends early."""
        head = os.pread(self._file.fileno(), HEAD.size, place)
        if len(head) < HEAD.size:
            raise self._damaged(place, "the file ends early")
        length, crc = HEAD.unpack(head)
        if mask_crc(head[:8]) != crc:
            raise self._damaged(place, "the checksum of its length is wrong")
        if place + HEAD.size + length + SUM.size > self._size:
            raise self._damaged(place, "the file ends early")
        check_memory(f"a record of {self.path}", 2 * length)
        raw = os.pread(self._file.fileno(), length + SUM.size, place + HEAD.size)
        if len(raw) < length + SUM.size:
            raise self._damaged(place, "the file ends early")
        (crc,) = SUM.unpack_from(raw, length)
        if mask_crc(raw[:length]) != crc:
            raise self._damaged(place, "its checksum is wrong")
        return raw[:length]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _damaged(self, place: int, what: str) -> DataError:
        return DataError(f"{self.path}: the record at byte {place:,} is damaged: {what}; {AGAIN}")


def mask_crc(raw: bytes) -> int:
    """The masked CRC-32C of TFRecord."""
    crc = google_crc32c.value(raw)
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def parse_example(raw: bytes | memoryview, where: str) -> Example:
    """The features of an Example or SequenceExample by their names.

    Lists of bytes share the record's memory. Raises DataError where the bytes are none.
    """
    found: Example = {}
    try:
        for number, value in _split_fields(memoryview(raw)):
            if number == 1:
                for name, feature in _split_map(value):
                    found[name] = _parse_feature(feature)
            elif number == 2:
                for name, steps in _split_map(value):
                    found[name] = _join_steps(steps)
    except (ValueError, IndexError, struct.error, UnicodeDecodeError, TypeError) as problem:
        raise DataError(f"{where} is no tf.train.Example ({cut(str(problem))})") from problem
    return found


def _split_fields(raw: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of every field of a message; of a number its raw bytes."""
    place = 0
    while place < len(raw):
        tag, place = _read_varint(raw, place)
        kind = tag & 7
        start = place
        if kind == 0:
            _, stop = _read_varint(raw, place)
        elif kind == 1:
            stop = place + 8
        elif kind == 2:
            length, start = _read_varint(raw, place)
            stop = start + length
        elif kind == 5:
            stop = place + 4
        else:
            raise ValueError(f"a field of wire type {kind}")
        if stop > len(raw):
            raise ValueError("a field ends early")
        yield tag >> 3, raw[start:stop]
        place = stop


def _split_map(raw: memoryview) -> Iterator[tuple[str, memoryview]]:
    """The entries of a map from names to messages, which is field 1."""
    count = 0
    for number, entry in _split_fields(raw):
        if number != 1:
            continue
        count += 1
        if count > MOST_NAMES:
            raise ValueError(f"more than {MOST_NAMES:,} features")
        name, value = "", memoryview(b"")
        for part, content in _split_fields(entry):
            if part == 1:
                name = bytes(content).decode()
            elif part == 2:
                value = content
        yield name, value


def _parse_feature(raw: memoryview) -> Feature:
    """A BytesList (1), FloatList (2) or Int64List (3), whose values are field 1."""
    for kind, values in _split_fields(raw):
        parts = [part for number, part in _split_fields(values) if number == 1]
        if kind == 1:
            return parts
        joined = b"".join(parts)  # packed in one part, or a part for each
        if kind == 2:
            return np.frombuffer(joined, "<f4")
        if kind == 3:
            return decode_varints(joined)
    return []


def _join_steps(raw: memoryview) -> Feature:
    """The features of a FeatureList in a row."""
    numbers: list[NDArray[Any]] = []
    texts: list[memoryview] = []
    for number, part in _split_fields(raw):
        if number == 1:
            step = _parse_feature(part)
            if isinstance(step, np.ndarray):
                numbers.append(step)
            else:
                texts += step
    if numbers:
        return np.concatenate(numbers)
    return texts


def decode_varints(raw: bytes) -> NDArray[np.int64]:
    """Integers of 64 bits in protobuf's variable length."""
    octets = np.frombuffer(raw, np.uint8)
    ends = np.flatnonzero(octets < 128)
    if not len(octets):
        return np.zeros(0, np.int64)
    if not len(ends) or ends[-1] != len(octets) - 1:
        raise ValueError("a whole number ends early")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > VARINT_BYTES:
        raise ValueError("a whole number is too long")
    values = np.zeros(len(ends), np.uint64)
    for number in range(int(lengths.max())):
        there = lengths > number
        bits = (octets[starts[there] + number] & 0x7F).astype(np.uint64)
        values[there] |= bits << np.uint64(7 * number)
    return values.view(np.int64)


def _read_varint(raw: memoryview, place: int) -> tuple[int, int]:
    """A number and the place after it."""
    value = 0
    for shift in range(VARINT_BYTES):
        octet = raw[place + shift]
        value |= (octet & 0x7F) << (7 * shift)
        if octet < 128:
            return value, place + shift + 1
    raise ValueError("a number is too long")
