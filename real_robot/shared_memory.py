"""Memory that two processes share: a ring of the newest records, and a queue of messages.

Records are numpy's structured ones, of a fixed size. One process writes, and nobody waits for a
lock: a process that dies in the middle of a write blocks nobody, and leaves no half record behind.

A block is a file in memory, mapped by both sides. `multiprocessing.shared_memory` is not used: up
to Python 3.12 its tracker removes a block when the first of several processes ends. The kernel
drops the lock on a block with the process that holds it, however that process ends. So whoever
comes later tells dead blocks from living ones, and removes them.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import platform
import secrets
import tempfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..spec import HotstartError

MEMORY = Path("/dev/shm")
PREFIX = "hotstart-"
MAGIC = 0x686F7473746172
HEADER = np.dtype(
    [("magic", "<i8"), ("size", "<i8"), ("slots", "<i8"), ("head", "<i8"), ("tail", "<i8")]
)
ORDERED = platform.machine() in ("x86_64", "AMD64")
"""Whether this machine's processors never reorder stores; others need a checksum per record."""
TRIES = 50
"""So often a reader copies again what was overwritten meanwhile."""


class SharedMemoryError(HotstartError):
    """Shared memory is missing, full, or of another kind."""


class QueueFullError(SharedMemoryError):
    """The other side has taken no messages for too long."""


def find_folder() -> Path:
    """Where blocks lie: in memory; on systems without such a folder among the temporary files."""
    if MEMORY.is_dir():
        return MEMORY
    return Path(tempfile.gettempdir())


def path_of(number: int) -> str:
    """What to attach to where a block's file was inherited, see `inherit`."""
    return f"/proc/self/fd/{number}"


def sweep() -> list[str]:
    """Remove blocks that no living process has open; returns their names."""
    removed = []
    for path in find_folder().glob(f"{PREFIX}*"):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed.append(path.name)
        except OSError:  # it lives, it is another user's, or somebody else was faster
            continue
    return removed


class _Block:
    """Shared bytes with a name, as an array of slots behind a header."""

    def __init__(self, name: str, slots: int, record: np.dtype[Any], checked: bool) -> None:
        """Create a block where `name` is empty, else open the one of this name."""
        self.record = record
        fields = [("sequence", "<i8"), ("checksum", "<i8"), ("record", record)]
        slot = np.dtype(fields, align=True)
        self._file = -1
        if name:
            self.name = name
            self._open(slot.itemsize)
        else:
            self._create(slots, slot.itemsize)
        self._map = mmap.mmap(self._file, 0)
        self._header = np.frombuffer(self._map, HEADER, 1)
        self.slots = int(self._header["slots"][0])
        found = np.frombuffer(self._map, slot, self.slots, HEADER.itemsize)
        self._sequence, self._checksum = found["sequence"], found["checksum"]
        self._records = found["record"]
        self._head, self._tail = self._header["head"], self._header["tail"]
        self._checked = checked

    def _create(self, slots: int, slot_bytes: int) -> None:
        """A new block under a name of its own, after the dead ones are gone."""
        sweep()
        self.name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        path = find_folder() / self.name
        size = HEADER.itemsize + slots * slot_bytes
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_SH)
        try:
            os.posix_fallocate(self._file, 0, size)
        except OSError as error:
            path.unlink()
            os.close(self._file)
            raise SharedMemoryError(
                f"{size} bytes of shared memory could not be had in {path.parent} ({error}): "
                "free some there, or give the container more (docker run --shm-size)"
            ) from error
        header = np.array([(MAGIC, slot_bytes, slots, 0, 0)], HEADER)
        os.pwrite(self._file, header.tobytes(), 0)

    def _open(self, slot_bytes: int) -> None:
        """Raise SharedMemoryError unless there is such a block, for records of this size."""
        try:
            self._file = os.open(find_folder() / self.name, os.O_RDWR)
        except OSError as error:
            raise SharedMemoryError(
                f"shared memory {self.name!r} cannot be opened ({error.strerror}): the process "
                "that made it may have ended"
            ) from error
        fcntl.flock(self._file, fcntl.LOCK_SH)
        raw = os.pread(self._file, HEADER.itemsize, 0).ljust(HEADER.itemsize, b"\0")
        header = np.frombuffer(raw, HEADER)[0]
        if header["magic"] != MAGIC or header["size"] != slot_bytes:
            os.close(self._file)
            raise SharedMemoryError(
                f"shared memory {self.name!r} holds slots of {header['size']} bytes; "
                f"{slot_bytes} were expected: both sides must run one version of hotstart, "
                "for one robot"
            )

    def blank(self) -> NDArray[Any]:
        """A record (1,) of zeros, to be filled and written."""
        return np.zeros(1, self.record)

    def _write(self, record: NDArray[Any]) -> None:
        """Put a record (1,) into the next slot: odd numbers say that one is being written."""
        number = int(self._head[0])
        slot = number % self.slots
        self._sequence[slot] = 2 * number + 1
        self._records[slot] = record[0]
        if self._checked:
            self._checksum[slot] = zlib.crc32(record.tobytes())
        self._sequence[slot] = 2 * number + 2
        self._head[0] = number + 1

    def _copy(self, first: int, end: int) -> NDArray[Any] | None:
        """Records number `first` to `end`, or None where one is being overwritten."""
        numbers = np.arange(first, end)
        slots = numbers % self.slots
        before = self._sequence[slots]
        records = self._records[slots]
        checksums = self._checksum[slots]
        after = self._sequence[slots]
        whole = (before == 2 * numbers + 2).all() and (after == before).all()
        if whole and self._checked:
            for record, checksum in zip(records, checksums, strict=True):
                whole = whole and zlib.crc32(record.tobytes()) == checksum
        if whole:
            return records
        return None

    def inherit(self) -> int:
        """The number of the block's file, for a child process that inherits it.

        The child attaches to `path_of(number)`, also when the block has no name any more.
        """
        return self._file

    def unlink(self) -> None:
        """Take the name away: those who have the block open keep it, and nobody else comes."""
        (find_folder() / self.name).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the block, and take its name away if nobody else has it open."""
        if self._file < 0:
            return
        del self._header, self._sequence, self._checksum, self._records, self._head, self._tail
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.unlink()
        except BlockingIOError:
            pass
        os.close(self._file)
        self._file = -1
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Ring(_Block):
    """The newest records of one writer; any number of readers copy the last few."""

    @classmethod
    def create(cls, record: np.dtype[Any], slots: int, checked: bool = not ORDERED) -> Ring:
        """A ring for `slots` records; `checked` adds a checksum, see ORDERED.

        Raises SharedMemoryError where there is not so much memory.
        """
        return cls("", slots, record, checked)

    @classmethod
    def attach(cls, name: str, record: np.dtype[Any], checked: bool = not ORDERED) -> Ring:
        """The ring of this name; raises SharedMemoryError unless there is one for such records."""
        return cls(name, 0, record, checked)

    @property
    def written(self) -> int:
        """Records written so far."""
        return int(self._head[0])

    def write(self, record: NDArray[Any]) -> None:
        """Add a record (1,); it takes the place of the oldest one."""
        self._write(record)

    def last(self, count: int) -> NDArray[Any]:
        """Copies of the newest records (n,), oldest first; n <= `count` and < slots.

        Raises SharedMemoryError where the writer overwrites them faster than they are copied.
        """
        for _ in range(TRIES):
            end = self.written
            records = self._copy(max(0, end - min(count, self.slots - 1)), end)
            if records is not None:
                return records
        raise SharedMemoryError(
            f"{count} of {self.slots} records could not be copied {TRIES} times in a row: "
            "read fewer at a time"
        )

    def newest(self) -> NDArray[Any] | None:
        """The newest record, ()-shaped; None before the first one."""
        found = self.last(1)
        if len(found) == 0:
            return None
        return found[0]


class Queue(_Block):
    """Messages from one process to another, each taken once, in order."""

    @classmethod
    def create(cls, record: np.dtype[Any], slots: int, checked: bool = not ORDERED) -> Queue:
        """A queue for `slots` messages; `checked` adds a checksum, see ORDERED.

        Raises SharedMemoryError where there is not so much memory.
        """
        return cls("", slots, record, checked)

    @classmethod
    def attach(cls, name: str, record: np.dtype[Any], checked: bool = not ORDERED) -> Queue:
        """The queue of this name; raises SharedMemoryError unless there is one for such records."""
        return cls(name, 0, record, checked)

    def put(self, message: NDArray[Any]) -> None:
        """Add a message (1,); raises QueueFullError where the other side takes none."""
        waiting = int(self._head[0] - self._tail[0])
        if waiting >= self.slots:
            raise QueueFullError(
                f"{waiting} messages wait to be taken and there is no room for more: "
                "the process that takes them hangs, or has ended"
            )
        self._write(message)

    def take(self) -> NDArray[Any]:
        """The messages that have come (n,), oldest first."""
        first, end = int(self._tail[0]), int(self._head[0])
        if first == end:
            return np.zeros(0, self.record)
        messages = self._copy(first, end)
        if messages is None:  # only on processors that reorder stores: the next call finds it
            return np.zeros(0, self.record)
        self._tail[0] = end
        return messages
