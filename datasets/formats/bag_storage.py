"""Recordings of messages: topics, an index of times, and the bytes of a message when asked for.

A recording is one or more files that belong together; each kind of file is a `BagFile`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from ...spec import ConfigError, DataError, shorten

MCAP_MAGIC = b"\x89MCAP0\r\n"
SQLITE_MAGIC = b"SQLite format 3\0"
METADATA = "metadata.yaml"
MOST_MESSAGE = 1 << 28
"""Bytes of a message, and of a chunk of messages, that are read at most."""
MOST_FILES = 100_000


@dataclass(frozen=True)
class Topic:
    """A stream of messages of one type."""

    name: str
    type: str
    encoding: str
    """How messages are written: cdr, ros1, json, ..."""
    schema: str
    """How the definition is written: ros2msg, ros2idl, jsonschema, ...; empty where it lacks."""
    definition: str


class Message(NamedTuple):
    """One message while a file is read from its beginning."""

    topic: int
    """Its number in the file's topics."""
    log_ns: int
    """When it was written down [ns]."""
    place: tuple[int, int]
    """Where `BagFile.read` finds it again."""
    data: memoryview


class BagFile(Protocol):
    """One file of messages; `read` may be called from several threads."""

    path: Path
    notes: list[str]

    @property
    def topics(self) -> Sequence[Topic]:
        """Every topic; complete once the file has been scanned."""
        ...

    def scan(self) -> Iterator[Message]:
        """Every message in the file's order; DataError where the file is damaged."""
        ...

    def read(self, place: tuple[int, int]) -> memoryview:
        """The bytes of one message."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_file(path: Path) -> BagFile:
    """Open a file of messages by its first bytes; DataError where it is none."""
    try:
        with path.open("rb") as file:
            head = file.read(len(SQLITE_MAGIC))
    except OSError as problem:
        raise DataError(f"{path} cannot be read ({problem.strerror})") from problem
    if head.startswith(MCAP_MAGIC):
        from .mcap_file import McapFile

        return McapFile(path)
    if head == SQLITE_MAGIC:
        from .sqlite_bag import SqliteBag

        return SqliteBag(path)
    if path.suffix == ".zstd":
        raise DataError(f"{path} is packed as a whole: unpack it first, zstd -d {path.name}")
    raise DataError(f"{path} is neither MCAP nor a database of rosbag2; copy it again")


def list_recordings(path: Path) -> list[tuple[Path, list[Path]]]:
    """Every recording at a path with its files, in the order of their names.

    A file is a recording; a folder with `metadata.yaml` is one of all its files; another folder
    holds a recording for each such folder and file in it.
    """
    if path.is_file():
        return [(path, [path])]
    if (path / METADATA).is_file():
        return [(path, _list_files(path))]
    found: list[tuple[Path, list[Path]]] = []
    for inner in sorted(path.iterdir()):
        if (inner / METADATA).is_file():
            found.append((inner, _list_files(inner)))
        elif is_bag_file(inner):
            found.append((inner, [inner]))
    if not found:
        raise DataError(f"{path} holds no recording: no .mcap or .db3 file, no {METADATA}")
    if len(found) > MOST_FILES:
        raise DataError(f"{path} holds {len(found):,} recordings; {MOST_FILES:,} are read at most")
    return found


def is_bag_file(path: Path) -> bool:
    """Whether a file is named as a recording's and is no folder."""
    return path.suffix in (".mcap", ".db3") and path.is_file()


def _list_files(folder: Path) -> list[Path]:
    """The files of a rosbag2 in their order: FOLDER_0, FOLDER_1, ..., FOLDER_10."""
    files: list[Path] = []
    for path in folder.iterdir():
        if is_bag_file(path) or path.name.endswith((".db3.zstd", ".mcap.zstd")):
            files.append(path)
    if not files:
        raise DataError(f"{folder} has a {METADATA} and no .mcap or .db3 file; copy it again")
    return sorted(files, key=lambda path: (len(path.name), path.name))


def unpack(raw: bytes | memoryview, how: str, size: int, where: str) -> bytes:
    """Bytes that were packed by `how` (lz4, zstd or nothing), of `size` bytes when unpacked.

    A size of -1 is not compared. Raises DataError for another size, for more than MOST_MESSAGE
    bytes, and for damage; never unpacks more than that.
    """
    if size > MOST_MESSAGE:
        raise DataError(f"{where} declares {size:,} bytes; at most {MOST_MESSAGE:,} are read")
    limit = MOST_MESSAGE
    if size >= 0:
        limit = size
    if how == "":
        found = bytes(raw)
    elif how == "lz4":
        found = _unpack_lz4(raw, limit, where)
    elif how == "zstd":
        found = _unpack_zstd(raw, limit, where)
    else:
        raise DataError(f"{where} is packed by {shorten(how)}; lz4 and zstd are read")
    if size >= 0 and len(found) != size:
        raise DataError(f"{where} holds other than the {size:,} bytes it declares; copy it again")
    return found


def _unpack_lz4(raw: bytes | memoryview, limit: int, where: str) -> bytes:
    try:
        from lz4.frame import LZ4FrameDecompressor
    except ImportError as missing:
        raise _explain_extra() from missing
    try:
        return LZ4FrameDecompressor().decompress(raw, limit + 1)
    except (RuntimeError, EOFError, ValueError) as problem:
        raise DataError(f"{where} is damaged ({problem}); copy it again") from problem


def _unpack_zstd(raw: bytes | memoryview, limit: int, where: str) -> bytes:
    try:
        import zstandard
    except ImportError as missing:
        raise _explain_extra() from missing
    try:
        with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            found = stream.read(limit + 1)
    except zstandard.ZstdError as problem:
        raise DataError(f"{where} is damaged ({problem}); copy it again") from problem
    if len(found) > limit:
        raise DataError(f"{where} holds more than {limit:,} bytes; copy it again")
    return found


def _explain_extra() -> ConfigError:
    return ConfigError("packed recordings need the rosbag extra: pip install 'hotstart[rosbag]'")
