"""A folder of files on object storage, on a web server or on disk, read and written by fsspec.

Where the network fails, an operation is tried again; errors name the address of the file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ...spec import ConfigError, DataError, cut
from ...system.untrusted import read_bytes

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "http", "https", "file", "memory")
READ_ONLY = ("http", "https")
TRIES = 4
WAIT_S = 0.5
"""Before the second try; each later wait is twice as long."""
FINAL = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
"""Errors of Amazon's library that no further try mends."""
_URL = re.compile(rf"({'|'.join(SCHEMES)}):/+(.*)")
Value = TypeVar("Value")


def find_url(path: str | Path) -> str | None:
    """The address that a path stands for; None for an ordinary path.

    A `Path` makes `s3:/bucket` of `s3://bucket`; both are read.
    """
    found = _URL.fullmatch(str(path))
    if found is None:
        return None
    scheme, rest = found.groups()
    if scheme == "file":
        rest = f"/{rest}"
    return f"{scheme}://{rest.rstrip('/')}"


def show_path(path: str | Path) -> str:
    """A path or an address as people write it."""
    return find_url(path) or str(path)


class Place:
    """A folder of files, each of which is written and read as a whole."""

    def __init__(self, path: Path) -> None:
        """`path` is a folder or an address; ConfigError where its library is not installed."""
        url = find_url(path)
        self.name = url or str(path)
        self.folder: Path | None = None
        """Where the files lie on this machine; None for others."""
        if url is None:
            self.folder = path
        elif url.startswith("file://"):
            self.folder = Path(url.removeprefix("file://"))
        else:
            self._files, self._root = _open_files(url)

    def read(self, name: str, limit: int) -> bytes:
        """The whole of a file; DataError where it is missing, longer or cannot be read."""
        if self.folder is not None:
            return read_bytes(self.folder / name, DataError, limit)
        address = f"{self._root}/{name}"
        raw = self._try(
            f"{self.name}/{name} cannot be read",
            lambda: self._files.cat_file(address, start=0, end=limit + 1),
        )
        if len(raw) > limit:
            raise DataError(f"{self.name}/{name} is longer than {limit:,} bytes")
        return raw

    def write(self, name: str, raw: bytes) -> None:
        """Put bytes into a file: afterwards it holds all of them, or is as before."""
        if self.folder is not None:
            from ..durable import write_durably  # zarr is slow to import

            try:
                write_durably(self.folder / name, raw)
            except OSError as error:
                raise DataError(
                    f"{self.folder / name} cannot be written ({cut(str(error))})"
                ) from error
            return
        if self.name.startswith(READ_ONLY):
            raise ConfigError(f"{self.name} is only read: write to a folder or to object storage")
        address = f"{self._root}/{name}"
        self._try(
            f"{self.name}/{name} cannot be written", lambda: self._files.pipe_file(address, raw)
        )

    def list_sizes(self) -> dict[str, int]:
        """The files directly in the folder with their bytes; none where there is no folder."""
        if self.folder is not None:
            if not self.folder.is_dir():
                return {}
            return {file.name: file.stat().st_size for file in self.folder.iterdir()}
        found = self._try(f"{self.name} cannot be listed", self._list)
        return {str(entry["name"]).rpartition("/")[2]: int(entry["size"] or 0) for entry in found}

    def remove(self, name: str) -> None:
        """Delete a file."""
        if self.folder is not None:
            (self.folder / name).unlink(missing_ok=True)
            return
        address = f"{self._root}/{name}"
        self._try(f"{self.name}/{name} cannot be deleted", lambda: self._files.rm_file(address))

    def _list(self) -> list[dict[str, Any]]:
        with suppress(FileNotFoundError):
            return self._files.ls(self._root, detail=True, refresh=True)
        return []

    def _try(self, what: str, act: Callable[[], Value]) -> Value:
        """What an action returns; DataError, beginning with `what`, where it fails for good."""
        for number in range(1, TRIES + 1):
            try:
                return act()
            except FileNotFoundError as error:
                raise DataError(f"{what}: there is no such file or bucket") from error
            except PermissionError as error:
                raise DataError(f"{what}: no right to do that ({cut(str(error))})") from error
            except Exception as error:  # each store's library has errors of its own
                if number == TRIES or type(error).__name__ in FINAL:
                    said = cut(str(error)) or type(error).__name__
                    raise DataError(f"{what}: {said} (tried {number} times)") from error
            time.sleep(WAIT_S * 2 ** (number - 1))
        raise AssertionError("the last try returns or raises")


def _open_files(url: str) -> tuple[Any, str]:
    """fsspec's file system of an address, and the folder in it."""
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url)
    except ImportError as error:
        raise ConfigError(
            f"{url} needs a library that is not installed ({cut(str(error))}): for s3 "
            "pip install 'hotstart[cloud]'"
        ) from error
