"""Tells foreign data sets apart by their names and first bytes; nothing of them is run."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from .files import DAMAGE

ENDS = "meta/episode_ends"
HEAD_BYTES = 1 << 20


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


def _is_store(folder: Path) -> bool:
    """Whether the attributes of a Zarr group are those of a store of ours."""
    try:
        with (folder / "zarr.json").open("rb") as file:
            return b'"action_spec"' in file.read(HEAD_BYTES)
    except OSError:
        return False
