"""MCAP, the container of messages of Foxglove and ROS 2 (mcap.dev/spec), read record by record.

The summary at the end is not trusted, the records themselves are read: a file whose recorder was
killed gives all its whole chunks. The checksums of chunks and of the data section are compared.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from ...spec import DataError, cut
from .bag_storage import MCAP_MAGIC, MOST_MESSAGE, Message, Topic, unpack

NO_KIND = 0x00
SCHEMA = 0x03
CHANNEL = 0x04
MESSAGE = 0x05
CHUNK = 0x06
DATA_END = 0x0F
HEAD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")
CHUNK_HEAD = struct.Struct("<QQQI")
KEPT_CHUNKS = 4
MOST_TOPICS = 10_000
LATEST_NS = 1 << 62
PLAIN = -1
"""In place of a chunk's place: the message stands in the file by itself."""


class Schema(NamedTuple):
    """A type of message with its definition."""

    name: str
    encoding: str
    text: str


class McapFile:
    """One file; `scan` finds its topics and messages, `read` unpacks a chunk at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._topics: list[Topic] = []
        self.notes: list[str] = []
        self._file = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size
        self._schemas: dict[int, Schema] = {}
        self._numbers: dict[int, int] = {}
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()
        self._crc = 0

    @property
    def topics(self) -> Sequence[Topic]:
        """The topics that were found so far."""
        return self._topics

    def scan(self) -> Iterator[Message]:
        """Every message in the order of the file; see `BagFile`."""
        self._crc = zlib.crc32(MCAP_MAGIC)
        place = len(MCAP_MAGIC)
        while True:
            if place + HEAD.size > self._size:
                self._note_early_end(place)
                return
            kind, length = HEAD.unpack(self._pread(place, HEAD.size))
            body = place + HEAD.size
            if body + length > self._size:
                self._note_early_end(place)
                return
            if length > MOST_MESSAGE:
                raise self._damaged(f"a record at byte {place:,} has {length:,} bytes")
            content = self._pread(body, length)
            if kind == DATA_END:
                self._check_sum(content)
                return
            self._crc = zlib.crc32(content, zlib.crc32(HEAD.pack(kind, length), self._crc))
            if kind == CHUNK:
                yield from self._scan_records(self._unpack_chunk(content, place), place)
            else:
                yield from self._read_record(kind, memoryview(content), (PLAIN, body))
            place = body + length

    def read(self, place: tuple[int, int]) -> memoryview:
        """The bytes of one message; the newest chunks are kept unpacked."""
        chunk, start = place
        if chunk == PLAIN:
            _, length = HEAD.unpack(self._pread(start - HEAD.size, HEAD.size))
            return memoryview(self._pread(start, length))[MESSAGE_HEAD.size :]
        raw = self._chunk(chunk)
        _, length = HEAD.unpack_from(raw, start - HEAD.size)
        return memoryview(raw)[start + MESSAGE_HEAD.size : start + length]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _chunk(self, place: int) -> bytes:
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
        _, length = HEAD.unpack(self._pread(place, HEAD.size))
        raw = self._unpack_chunk(self._pread(place + HEAD.size, length), place)
        with self._lock:
            self._kept[place] = raw
            if len(self._kept) > KEPT_CHUNKS:
                self._kept.popitem(last=False)
        return raw

    def _unpack_chunk(self, content: bytes, place: int) -> bytes:
        """The records of a chunk; DataError where size or checksum are wrong."""
        where = f"{self.path}: the chunk at byte {place:,}"
        try:
            size, crc = CHUNK_HEAD.unpack_from(content)[2:]
            how, start = _read_text(content, CHUNK_HEAD.size)
            (packed,) = struct.unpack_from("<Q", content, start)
        except (struct.error, ValueError) as problem:
            raise self._damaged(f"the chunk at byte {place:,}: {problem}") from problem
        start += 8
        if start + packed != len(content):
            raise self._damaged(f"the chunk at byte {place:,} declares {packed:,} packed bytes")
        raw = unpack(memoryview(content)[start:], how, size, where)
        if crc and zlib.crc32(raw) != crc:
            raise self._damaged(f"the checksum of the chunk at byte {place:,} is wrong")
        return raw

    def _scan_records(self, raw: bytes, chunk: int) -> Iterator[Message]:
        view = memoryview(raw)
        place = 0
        while place < len(raw):
            if place + HEAD.size > len(raw):
                raise self._damaged(f"the chunk at byte {chunk:,} ends inside a record")
            kind, length = HEAD.unpack_from(raw, place)
            body = place + HEAD.size
            if body + length > len(raw):
                raise self._damaged(f"the chunk at byte {chunk:,} ends inside a record")
            yield from self._read_record(kind, view[body : body + length], (chunk, body))
            place = body + length

    def _read_record(
        self, kind: int, content: memoryview, place: tuple[int, int]
    ) -> Iterator[Message]:
        """The message of a record; schemas and channels are remembered."""
        try:
            if kind == MESSAGE:
                head = MESSAGE_HEAD.unpack_from(content)  # channel, sequence, log time, own time
                log_ns = head[2]
                if log_ns > LATEST_NS:
                    raise ValueError(f"a message was written down at {log_ns:,} ns")
                number = self._numbers[head[0]]
                yield Message(number, log_ns, place, content[MESSAGE_HEAD.size :])
            elif kind == NO_KIND:
                raise ValueError("there is no such kind")
            elif kind == SCHEMA:
                self._read_schema(bytes(content))
            elif kind == CHANNEL:
                self._read_channel(bytes(content))
        except (struct.error, ValueError, KeyError) as problem:
            raise self._damaged(f"a record of kind {kind:#x}: {cut(str(problem))}") from problem

    def _read_schema(self, content: bytes) -> None:
        (number,) = struct.unpack_from("<H", content)
        name, place = _read_text(content, 2)
        encoding, place = _read_text(content, place)
        (length,) = struct.unpack_from("<I", content, place)
        data = content[place + 4 : place + 4 + length]
        if len(data) != length:
            raise ValueError("a schema ends early")
        self._schemas[number] = Schema(name, encoding, data.decode(errors="replace"))

    def _read_channel(self, content: bytes) -> None:
        """Remember a channel; the topics of channels that say the same are one."""
        number, schema = struct.unpack_from("<HH", content)
        topic, place = _read_text(content, 4)
        encoding, _ = _read_text(content, place)
        found = Topic(topic, "", encoding, "", "")
        if schema:
            kind = self._schemas[schema]
            found = Topic(topic, kind.name, encoding, kind.encoding, kind.text)
        if found not in self._topics:
            self._topics.append(found)
        if len(self._topics) > MOST_TOPICS:
            raise ValueError(f"there are more than {MOST_TOPICS:,} topics")
        self._numbers[number] = self._topics.index(found)

    def _check_sum(self, content: bytes) -> None:
        """Compare the checksum of the data section; 0 says that none was made."""
        (crc,) = struct.unpack_from("<I", content.ljust(4, b"\0"))
        if crc and crc != self._crc:
            raise self._damaged("the checksum of its data section is wrong")

    def _note_early_end(self, place: int) -> None:
        """A recorder that was killed wrote no magic at the end; a whole file does not end early."""
        if self._pread(self._size - len(MCAP_MAGIC), len(MCAP_MAGIC)) == MCAP_MAGIC:
            raise self._damaged(f"the record at byte {place:,} has a wrong length")
        self.notes.append(
            f"{self.path} ends early, as after a killed recorder: its last {self._size - place:,} "
            "bytes are no whole record and are left out"
        )

    def _pread(self, place: int, length: int) -> bytes:
        try:
            found = os.pread(self._file.fileno(), length, place)
        except (OSError, ValueError) as problem:
            raise self._damaged(cut(str(problem))) from problem
        if len(found) != length:
            raise self._damaged(f"it ends before byte {place + length:,}")
        return found

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.path} is damaged: {what}; copy it again")


def _read_text(content: bytes, place: int) -> tuple[str, int]:
    """A text with its length before it, and the place after it."""
    (length,) = struct.unpack_from("<I", content, place)
    stop = place + 4 + length
    if stop > len(content):
        raise ValueError("a text ends early")
    return content[place + 4 : stop].decode(), stop
