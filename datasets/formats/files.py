"""Files of a data set that somebody else may have written: a folder or a zip, read within limits.

Only ordinary files are read: a pipe or a device in a folder would never end. Whatever is wrong
raises DataError.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ...spec import DataError, cut

AGAIN = "download or copy it again"
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    MemoryError,
)
"""What the standard library raises on files that are damaged or that it cannot read."""
HASH_BYTES = 1 << 20
FREE_BYTES = 1 << 30
MOST_RATIO = 1000
"""Arrays above FREE_BYTES may be this many times as large as the files that hold them; images
of one colour reach 100.
"""


class Digest(Protocol):
    """What hashlib's objects do."""

    def update(self, data: bytes, /) -> None:
        """Take further bytes."""
        ...


class Files(Protocol):
    """Named files; folders in a name are separated by "/"."""

    path: Path

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is no such file."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """The whole of a file; DataError where it is missing, damaged or longer than `limit`
        bytes.
        """
        ...

    def folders(self, name: str) -> list[str]:
        """Names of the folders directly below a folder, sorted."""
        ...

    def sizes(self, name: str) -> dict[str, int]:
        """Every file below a folder, however deep, by its name relative to the folder, with its
        bytes.
        """
        ...


class FolderFiles:
    """Files below a folder on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self, name: str) -> int | None:
        """Bytes of an ordinary file."""
        try:
            status = (self.path / name).stat()
        except (OSError, ValueError):
            return None
        if stat.S_ISREG(status.st_mode):
            return status.st_size
        return None

    def read(self, name: str, limit: int) -> bytes:
        """The whole of an ordinary file."""
        size = self.size(name)
        if size is None:
            raise DataError(f"{self.path / name} is missing or no ordinary file; {AGAIN}")
        _check_limit(f"{self.path / name}", size, limit)
        try:
            with (self.path / name).open("rb") as file:
                return file.read(limit)
        except DAMAGE as problem:
            raise DataError(
                f"{self.path / name} cannot be read ({cut(str(problem))}); {AGAIN}"
            ) from problem

    def folders(self, name: str) -> list[str]:
        """Folders directly below a folder; none where it cannot be read."""
        found: list[str] = []
        with suppress(OSError):
            for entry in os.scandir(self.path / name):
                if entry.is_dir():
                    found.append(entry.name)
        return sorted(found)

    def sizes(self, name: str) -> dict[str, int]:
        """Every ordinary file below a folder."""
        found: dict[str, int] = {}
        for folder, _, names in os.walk(self.path / name):
            inner = os.path.relpath(folder, self.path / name)
            for file in names:
                relative = f"{inner}/{file}".removeprefix("./")
                size = self.size(f"{name}/{relative}")
                if size is not None:
                    found[relative] = size
        return found


class ZipFiles:
    """Files of a zip, below `prefix` ("" or a folder that ends in "/")."""

    def __init__(self, path: Path) -> None:
        """Read the table of contents; DataError where the zip is damaged."""
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except DAMAGE as problem:
            raise DataError(
                f"{path} is not a whole zip ({cut(str(problem))}); {AGAIN}"
            ) from problem
        self.prefix = ""
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for info in self._archive.infolist():
            if not info.is_dir():
                self._entries[info.filename] = info

    def names(self) -> list[str]:
        """Every file of the zip."""
        return list(self._entries)

    def size(self, name: str) -> int | None:
        """Bytes of a file when unpacked, as the zip says."""
        entry = self._entries.get(self.prefix + name)
        if entry is None:
            return None
        return entry.file_size

    def read(self, name: str, limit: int) -> bytes:
        """The whole of a file, unpacked; its checksum is compared."""
        entry = self._entries.get(self.prefix + name)
        if entry is None:
            raise DataError(f"{self.path} holds no {cut(name)}; {AGAIN}")
        _check_limit(f"{cut(name)} in {self.path}", entry.file_size, limit)
        try:
            with self._archive.open(entry) as file:
                raw = file.read(limit + 1)
                at_end = not file.read(1)  # the checksum is compared at the end only
        except DAMAGE as problem:
            raise DataError(
                f"{cut(name)} in {self.path} is damaged ({cut(str(problem))}); {AGAIN}"
            ) from problem
        if len(raw) != entry.file_size or not at_end:
            raise DataError(
                f"{cut(name)} in {self.path} holds other than the {entry.file_size:,} bytes "
                f"it declares; {AGAIN}"
            )
        return raw

    def folders(self, name: str) -> list[str]:
        """Folders directly below a folder."""
        found: set[str] = set()
        for file in self.sizes(name):
            if "/" in file:
                found.add(file.split("/")[0])
        return sorted(found)

    def sizes(self, name: str) -> dict[str, int]:
        """Every file below a folder; bytes as they are packed."""
        start = f"{self.prefix}{name}/"
        found: dict[str, int] = {}
        for entry, info in self._entries.items():
            if entry.startswith(start):
                found[entry.removeprefix(start)] = info.compress_size
        return found


def check_inflation(where: str, declared: int, stored: int) -> None:
    """Raise DataError where files of `stored` bytes cannot hold arrays of `declared` bytes."""
    if declared > max(FREE_BYTES, MOST_RATIO * stored):
        raise DataError(
            f"{where} declares arrays of {declared:,} bytes in files of {stored:,} bytes: "
            f"more than {MOST_RATIO} times as much is not read; {AGAIN}"
        )


def check_memory(where: str, needed: int) -> None:
    """Raise DataError where something needs more than half of this machine's memory."""
    most = memory_bytes() // 2
    if needed > most:
        raise DataError(
            f"{where} takes {needed:,} bytes when read; half of this machine's memory is {most:,}"
        )


def memory_bytes() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _check_limit(where: str, size: int, limit: int) -> None:
    if size > limit:
        raise DataError(f"{where} has {size:,} bytes; at most {limit:,} are read of it")


def hash_file(path: Path, digest: Digest) -> None:
    """Put the bytes of a file into a digest, a block at a time; DataError where it is missing."""
    if not path.is_file():
        raise DataError(f"{path} is missing or no ordinary file")
    with path.open("rb") as file:
        while block := file.read(HASH_BYTES):
            digest.update(block)
