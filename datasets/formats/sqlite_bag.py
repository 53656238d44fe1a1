"""A database of rosbag2 (.db3), opened read-only and immutable; the format has no checksums.

The tables must be ordinary ones: a view or a computed column would run what a stranger wrote.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.request import pathname2url

from ...spec import DataError, cut
from ...system.untrusted import read_yaml
from .bag_storage import METADATA, MOST_MESSAGE, Message, Topic, unpack

MESSAGES = "SELECT id, topic_id, timestamp, data FROM messages ORDER BY id"
TOPICS = "SELECT id, name, type, serialization_format FROM topics ORDER BY id"
DEFINITIONS = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
COLUMNS = {"messages": 4, "topics": 4}


class SqliteBag:
    """One database file."""

    def __init__(self, path: Path) -> None:
        """Read the topics; DataError where the tables are not those of rosbag2."""
        self.path = path
        self.notes: list[str] = []
        self._lock = Lock()
        journal = path.with_name(f"{path.name}-wal")
        if journal.exists() and journal.stat().st_size:
            raise DataError(
                f"{path}: its last messages lie in {journal.name}; let its recorder end, or open "
                "and close it once with sqlite3"
            )
        self._packed = _is_packed_by_message(path)
        address = f"file:{pathname2url(str(path.absolute()))}?mode=ro&immutable=1"
        try:
            self._base = sqlite3.connect(address, uri=True, check_same_thread=False)
            self._base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_MESSAGE)
            self._base.execute("PRAGMA trusted_schema=OFF")
            self._base.execute("PRAGMA cell_size_check=ON")
            self._base.text_factory = lambda raw: raw.decode(errors="replace")
            for table, least in COLUMNS.items():
                self._check_table(table, least)
            self._numbers, self._topics = self._read_topics()
        except (sqlite3.Error, ValueError, TypeError, MemoryError) as problem:
            raise self._damaged(problem) from problem

    @property
    def topics(self) -> Sequence[Topic]:
        """Every topic."""
        return self._topics

    def scan(self) -> Iterator[Message]:
        """Every message in the order in which it was written."""
        try:
            cursor = self._base.execute(MESSAGES)
            for number, topic, log_ns, data in cursor:
                if not isinstance(data, bytes) or topic not in self._numbers:
                    raise self._damaged(f"message {number} is of no topic")
                if not isinstance(log_ns, int) or not isinstance(number, int):
                    raise self._damaged(f"message {number} has no time or no number")
                yield Message(self._numbers[topic], log_ns, (0, number), self._unpack(data))
        except (sqlite3.Error, MemoryError) as problem:
            raise self._damaged(problem) from problem

    def read(self, place: tuple[int, int]) -> memoryview:
        """The bytes of one message."""
        try:
            with self._lock:
                query = "SELECT data FROM messages WHERE id = ?"
                row = self._base.execute(query, (place[1],)).fetchone()
        except (sqlite3.Error, MemoryError) as problem:
            raise self._damaged(problem) from problem
        if row is None or not isinstance(row[0], bytes):
            raise self._damaged(f"message {place[1]} is missing")
        return self._unpack(row[0])

    def close(self) -> None:
        """Close the database."""
        self._base.close()

    def _unpack(self, data: bytes) -> memoryview:
        if self._packed:
            data = unpack(data, "zstd", -1, f"a message of {self.path}")
        return memoryview(data)

    def _check_table(self, table: str, least: int) -> None:
        """Refuse what is no ordinary table of plain columns."""
        row = self._base.execute(
            "SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
        if row is None:
            raise ValueError(f"it has no table {table}")
        if row[0] != "table" or not str(row[1]).upper().startswith("CREATE TABLE"):
            raise ValueError(f"{table} is no ordinary table")
        columns = self._base.execute(f"PRAGMA table_xinfo({table})").fetchall()
        if len(columns) < least or any(column[6] for column in columns):
            raise ValueError(f"the columns of {table} are not rosbag2's")

    def _read_topics(self) -> tuple[dict[int, int], list[Topic]]:
        definitions: dict[str, tuple[str, str]] = {}
        if self._base.execute("PRAGMA table_info(message_definitions)").fetchall():
            self._check_table("message_definitions", 3)
            for name, encoding, text in self._base.execute(DEFINITIONS):
                definitions[str(name)] = (str(encoding), str(text))
        numbers: dict[int, int] = {}
        topics: list[Topic] = []
        for number, name, kind, encoding in self._base.execute(TOPICS):
            written, text = definitions.get(str(kind), ("", ""))
            numbers[number] = len(topics)
            topics.append(Topic(str(name), str(kind), str(encoding), written, text))
        return numbers, topics

    def _damaged(self, problem: Any) -> DataError:
        return DataError(f"{self.path} is damaged ({cut(str(problem))}); copy it again")


def _is_packed_by_message(path: Path) -> bool:
    """Whether the metadata beside a database say that each message is packed."""
    place = path.parent / METADATA
    if not place.is_file():
        return False
    found = read_yaml(place, DataError, limit=4 << 20)
    if not isinstance(found, dict):
        return False
    info = found.get("rosbag2_bagfile_information")
    return isinstance(info, dict) and str(info.get("compression_mode")).lower() == "message"
