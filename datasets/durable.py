"""Files of a store that outlive a power cut: every write is on the disk before the next begins."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

PARTIAL = ".partial"


class DurableFiles(LocalStore):
    """Zarr's files in a folder, with the system's own buffers written out.

    Zarr writes a file under another name and renames it, so a killed process leaves the old file or
    the new one. After a power cut the new name may stand for an empty file, unless the content was
    on the disk before the name.
    """

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file: first its content, then its name."""
        await asyncio.to_thread(write_durably, self.root / key, value.as_buffer_like())


def write_durably(path: Path, content: Any) -> None:
    """Put bytes into a file; they and the file's name are on the disk when this returns."""
    _make_folder(path.parent)
    half = path.with_suffix(f".{uuid.uuid4().hex}{PARTIAL}")
    try:
        with half.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError:
        half.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; their names are on the disk."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
