"""The folder of an exported policy: a manifest, its numbers in one file, and graphs for an engine.

    manifest.json   what the policy is, which files belong to it, and their hashes
    numbers.bin     arrays that the manifest lists, one behind the other
    encode.*        observations -> what the network keeps of them
    denoise0.*      the network, one graph for each way through it
    decode.*        a normalised chunk -> actions of the robot

The folder may be somebody else's. Nothing in it is executed but the engine's graphs; sizes are
bounded before anything is read, and a file that is missing or damaged is an error. A hash shows
damage, not who wrote the folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...rows import Array
from ...spec import CheckpointError, cut, shorten
from ...spec.plain_values import is_whole
from ...system.untrusted import read_json

FORMAT = 1
MANIFEST = "manifest.json"
NUMBERS = "numbers.bin"
MANIFEST_BYTES = 4 << 20
FILE_BYTES = 8 << 30
"""The most bytes that a file of the folder may have."""
NUMBERS_BYTES = 1 << 30
MOST_FILES = 200
DTYPES = ("float32", "int64", "uint8", "bool")
"""What the numbers may be."""


@dataclass(frozen=True)
class Folder:
    """What a folder holds, all of it checked but the meaning."""

    path: Path
    manifest: Mapping[str, Any]
    numbers: Mapping[str, Array]

    def find_graph(self, name: str) -> Path:
        """The file of a graph; raises CheckpointError for one that the manifest does not list."""
        if name not in self.manifest["files"]:
            raise CheckpointError(f"{self.path} lists no file {shorten(name)}")
        return self.path / name


def write_folder(path: Path, manifest: Mapping[str, Any], numbers: Mapping[str, Array]) -> None:
    """Write numbers and manifest beside the graphs that lie in the folder already."""
    listed = {}
    with (path / NUMBERS).open("wb") as file:
        for name, array in numbers.items():
            if array.dtype.name not in DTYPES:
                raise TypeError(f"{name} is {array.dtype}; it must be one of {', '.join(DTYPES)}")
            listed[name] = {"dtype": array.dtype.name, "shape": list(array.shape)}
            file.write(np.ascontiguousarray(array).tobytes())
    files = {}
    for file in sorted(path.iterdir()):
        files[file.name] = {"bytes": file.stat().st_size, "sha256": find_hash(file)}
    plain = {"format": FORMAT, **manifest, "numbers": listed, "files": files}
    text = json.dumps(plain, indent=2, allow_nan=False) + "\n"
    (path / MANIFEST).write_text(text, encoding="utf-8")


def find_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_folder(path: Path) -> Folder:
    """The folder, with sizes and hashes of all files checked.

    Raises CheckpointError where it is no exported policy, is of another format, or is damaged.
    """
    if not (path / MANIFEST).is_file():
        raise CheckpointError(
            f"{path} is no exported policy: it has no {MANIFEST}; hotstart export writes such "
            "folders"
        )
    manifest = read_json(path / MANIFEST, CheckpointError, MANIFEST_BYTES)
    if not isinstance(manifest, dict):
        raise CheckpointError(f"{path / MANIFEST} is no manifest of an exported policy")
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {shorten(manifest.get('format'))}; this version reads format "
            f"{FORMAT}: export the checkpoint again"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not 0 < len(files) <= MOST_FILES:
        raise CheckpointError(f"{path / MANIFEST} does not list the files of the folder")
    for name, listed in files.items():
        _check_file(path, name, listed)
    numbers = explain_damage(path, lambda: _read_numbers(path, manifest["numbers"]))
    return Folder(path, manifest, numbers)


def explain_damage(path: Path, read: Callable[[], Any]) -> Any:
    """What `read` returns; CheckpointError that names the manifest where it stumbles."""
    try:
        return read()
    except CheckpointError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, RuntimeError, OSError) as error:
        words = cut(f"{type(error).__name__}: {error}")
        raise CheckpointError(f"{path / MANIFEST} is damaged: {words}") from error


def _check_file(path: Path, name: str, listed: Any) -> None:
    """Raise CheckpointError unless a listed file lies in the folder as it was written."""
    plain = isinstance(listed, dict) and is_whole(listed.get("bytes"))
    if not plain or Path(name).name != name or name in (MANIFEST, ".", ".."):
        raise CheckpointError(f"{path / MANIFEST} lists {shorten(name)}, which is no file of it")
    file = path / name
    try:
        found = file.lstat()
    except OSError:
        raise CheckpointError(f"{path} is incomplete: {name} is missing") from None
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{file} is no ordinary file")
    if found.st_size != listed["bytes"] or found.st_size > FILE_BYTES:
        raise CheckpointError(
            f"{file} is damaged: it has {found.st_size} bytes, {listed['bytes']} were written"
        )
    if find_hash(file) != listed.get("sha256"):
        raise CheckpointError(f"{file} is damaged: its SHA-256 is not the manifest's")


def _read_numbers(path: Path, listed: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays; raises CheckpointError where they are not as long as the file."""
    file = path / NUMBERS
    size = file.stat().st_size
    if size > NUMBERS_BYTES:
        raise CheckpointError(f"{file} is longer than {NUMBERS_BYTES:,} bytes")
    raw = file.read_bytes()
    found = {}
    place = 0
    for name, entry in listed.items():
        shape = tuple(entry["shape"])
        if entry["dtype"] not in DTYPES or not all(is_whole(each) and each >= 0 for each in shape):
            raise CheckpointError(f"{path / MANIFEST}: {shorten(name)} is {shorten(entry)}")
        dtype = np.dtype(entry["dtype"])
        count = math.prod(shape)
        if place + count * dtype.itemsize > size:
            raise CheckpointError(f"{file} ends before {shorten(name)}")
        found[name] = np.frombuffer(raw, dtype, count, place).reshape(shape)
        place += count * dtype.itemsize
    if place != size:
        raise CheckpointError(f"{file} is longer than what the manifest lists")
    return found
