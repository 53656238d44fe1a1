"""Tells foreign data sets apart by their names and first bytes; nothing of them is run."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from .bag_storage import MCAP_MAGIC, METADATA, SQLITE_MAGIC
from .files import DAMAGE
from .remote import find_url

ENDS = "meta/episode_ends"
HEAD_BYTES = 1 << 20


def holds_shards(path: Path) -> bool:
    """An address, which is not looked at, or a folder with the index of a sharded data set."""
    if find_url(path) is not None:
        return True
    return b'"hotstart-shards"' in read_head(path / "index.json", 4096)


def holds_hdf5(kind: str) -> Callable[[Path], bool]:
    """Whether a path is an HDF5 file, or a folder of them, in one of the registry's formats."""

    def holds(path: Path) -> bool:
        if not path.is_dir() and path.suffix in (".zip", ".npz"):
            return False
        from .hdf5_kinds import find_kind

        return find_kind(path) == kind

    return holds


def holds_replay_buffer(path: Path) -> bool:
    """A folder or zip with `meta/episode_ends` that is no store of ours, or an npz."""
    if path.suffix == ".npz":
        return True
    if path.is_dir():
        for pattern in (ENDS, f"*/{ENDS}", f"*/*/{ENDS}"):
            for found in path.glob(pattern):
                if (found / ".zarray").is_file() or not _is_store(found.parent.parent):
                    return True
        return False
    if path.suffix != ".zip":
        return False
    try:
        with zipfile.ZipFile(path) as packed:
            return any(f"{ENDS}/" in name for name in packed.namelist())
    except DAMAGE:
        return False


def holds_lerobot_v3(path: Path) -> bool:
    """A folder with LeRobot's `meta/info.json` of version 3."""
    return _lerobot_version(path).startswith(b"v3")


def holds_lerobot_v2(path: Path) -> bool:
    """A folder with LeRobot's `meta/info.json` of any other version; the reader says which."""
    version = _lerobot_version(path)
    return bool(version) and not version.startswith(b"v3")


def _lerobot_version(path: Path) -> bytes:
    """The version that `meta/info.json` names; empty where the folder is not LeRobot's."""
    try:
        with (path / "meta" / "info.json").open("rb") as file:
            found = _VERSION.search(file.read(HEAD_BYTES))
    except OSError:
        return b""
    if found is None:
        return b""
    return found.group(1) or b"none"


_VERSION = re.compile(rb'"codebase_version"\s*:\s*(?:"([^"]{1,20}))?')


def _is_store(folder: Path) -> bool:
    """Whether the attributes of a Zarr group are those of a store of ours."""
    try:
        with (folder / "zarr.json").open("rb") as file:
            return b'"action_spec"' in file.read(HEAD_BYTES)
    except OSError:
        return False


def holds_mcap(path: Path) -> bool:
    """An MCAP file, or a folder of them that is no rosbag2."""
    if path.is_dir():
        return not holds_rosbag2(path) and any(map(_is_file, path.glob("*.mcap")))
    return read_head(path, len(MCAP_MAGIC)) == MCAP_MAGIC


def holds_rosbag2(path: Path) -> bool:
    """A folder with rosbag2's metadata, a database of messages, or a folder of such."""
    if path.is_dir():
        for pattern in (METADATA, f"*/{METADATA}"):
            if any(map(_names_rosbag2, path.glob(pattern))):
                return True
        return any(map(_is_file, path.glob("*.db3")))
    return path.suffix == ".db3" and read_head(path, len(SQLITE_MAGIC)) == SQLITE_MAGIC


def holds_rlds(path: Path) -> bool:
    """A folder with features.json and shards of TFRecords, or one that holds it."""
    if not path.is_dir():
        return False
    for pattern in ("features.json", "*/features.json", "*/*/features.json"):
        for found in path.glob(pattern):
            if any(found.parent.glob("*.tfrecord-*-of-*")):
                return True
    return False


def _names_rosbag2(metadata: Path) -> bool:
    return b"rosbag2_bagfile_information" in read_head(metadata, 4096)


def _is_file(path: Path) -> bool:
    return path.is_file()


def read_head(path: Path, length: int) -> bytes:
    """The first bytes of an ordinary file; none where it cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(length)
    except OSError:
        return b""
