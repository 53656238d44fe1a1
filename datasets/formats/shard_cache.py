"""Shards of a data set, opened for reading; those of other machines are kept in a folder on disk.

A kept shard is called after its sha256, so several data sets and processes may share the folder.
It is written under another name and renamed, and its checksum is compared whenever it is opened.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from ...spec import DataError, HotstartError
from ..store import refuse_full_disk
from .files import ZipFiles, hash_file
from .remote import TRIES, Place

THREADS = 4
"""Shards that are fetched ahead at the same time."""
PART = ".part"
STALE_S = 3600.0
"""A half-written file that is older was left by a kill [s]."""
_OURS = re.compile(r"[0-9a-f]{64}(\.zip|\.[0-9a-f]{32}\.part)")
"""Files in the folder that may be deleted."""


@dataclass(frozen=True)
class Shard:
    """A file of some steps of some keys."""

    name: str
    sha256: str
    bytes: int


def find_cache_folder() -> Path:
    """Where shards are kept unless the user says otherwise."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "hotstart" / "shards"


class ShardCache:
    """Opens shards; may be asked from several threads.

    Shards of another machine take at most `most_bytes` in `folder`: the longest unused ones go. A
    process that still reads a file that another one removed keeps it until it closes it.
    """

    def __init__(self, place: Place, folder: Path, most_bytes: int) -> None:
        self.place = place
        self.folder = folder
        self.most_bytes = most_bytes
        self._open: OrderedDict[Shard, ZipFiles] = OrderedDict()
        self._gates: dict[Shard, Lock] = {}
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None

    def open(self, shard: Shard) -> ZipFiles:
        """A shard, fetched where it is not here; DataError where it is damaged or out of reach."""
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
                return self._open[shard]
            gate = self._gates.setdefault(shard, Lock())
        with gate:  # one thread fetches it, the others wait
            try:
                return self._open_new(shard)
            finally:
                with self._lock:
                    self._gates.pop(shard, None)

    def has(self, shard: Shard) -> bool:
        """Whether a shard is open."""
        with self._lock:
            return shard in self._open

    def fetch_ahead(self, shard: Shard) -> None:
        """Begin to open a shard in another thread; whatever fails is told when it is read."""
        with self._lock:
            if shard in self._open or shard in self._gates:
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(THREADS, "shards")
        self._pool.submit(self._open_quietly, shard)

    def close(self) -> None:
        """Close every file and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        with self._lock:
            self._open.clear()

    def _open_new(self, shard: Shard) -> ZipFiles:
        """A shard that is not open, unless another thread has just opened it."""
        with self._lock:
            if shard in self._open:
                return self._open[shard]
            self._close_oldest()
        found = self._find(shard)
        with self._lock:
            self._open[shard] = found
        return found

    def _open_quietly(self, shard: Shard) -> None:
        with suppress(HotstartError):
            self.open(shard)

    def _close_oldest(self) -> None:
        """Close what was not read for longest until what is being opened fits beside the rest."""
        size = sum(shard.bytes for shard in (*self._open, *self._gates))
        while size > self.most_bytes and self._open:
            size -= self._open.popitem(last=False)[0].bytes

    def _find(self, shard: Shard) -> ZipFiles:
        """The shard from this machine's disk, where it is put if it is not there."""
        if self.place.folder is not None:
            path = self.place.folder / shard.name
            if not _is_whole(path, shard):
                raise DataError(f"{path} is missing or damaged: copy or convert it again")
            return ZipFiles(path)
        path = self.folder / f"{shard.sha256}.zip"
        if _is_whole(path, shard):
            with suppress(OSError):
                os.utime(path)  # it was used just now
            with suppress(DataError):  # another process may have removed it by now
                return ZipFiles(path)
        raw = self._fetch(shard)
        message = f"{self.folder} has no room for a shard: free some, or choose another folder"
        with refuse_full_disk(message), _lock_folder(self.folder):
            self._make_room(shard.bytes)
            writing = self.folder / f"{shard.sha256}.{uuid.uuid4().hex}{PART}"
            try:
                writing.write_bytes(raw)
                writing.replace(path)
            finally:
                writing.unlink(missing_ok=True)
            return ZipFiles(path)

    def _fetch(self, shard: Shard) -> bytes:
        """The shard's bytes, with the right checksum; a damaged copy is fetched again."""
        for _ in range(TRIES):
            raw = self.place.read(shard.name, shard.bytes)
            if hashlib.sha256(raw).hexdigest() == shard.sha256:
                return raw
        raise DataError(
            f"{self.place.name}/{shard.name} is damaged: its sha256 is not the one in its name; "
            "write the data set again"
        )

    def _make_room(self, needed: int) -> None:
        """Remove the longest unused files that nobody here reads, until `needed` bytes fit."""
        with self._lock:
            kept = {f"{shard.sha256}.zip" for shard in self._open}
        files: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            if not _OURS.fullmatch(path.name):
                continue
            with suppress(OSError):  # another process may remove it in between
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        size = sum(entry[1] for entry in files) + needed
        for used, length, path in sorted(files):
            if path.suffix == PART:
                unused = time.time() - used > STALE_S
            else:
                unused = size > self.most_bytes and path.name not in kept
            if unused:
                path.unlink(missing_ok=True)
                size -= length


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Wait until no other thread or process writes into the folder; made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as file:
        with suppress(OSError):  # some file systems know no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_whole(path: Path, shard: Shard) -> bool:
    """Whether a file has the shard's length and checksum."""
    digest = hashlib.sha256()
    try:
        if path.stat().st_size != shard.bytes:
            return False
        hash_file(path, digest)
    except (OSError, DataError):
        return False
    return digest.hexdigest() == shard.sha256
